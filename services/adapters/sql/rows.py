"""Structs as rows: a table has a column for each field, of the same name."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row

StructT = TypeVar("StructT", bound=msgspec.Struct)


def to_row(value: msgspec.Struct) -> dict[str, Any]:
    """Return a struct's fields as column values."""
    return {name: msgspec.to_builtins(getattr(value, name)) for name in value.__struct_fields__}


def to_struct(row: Row[Any] | Mapping[str, Any], kind: type[StructT]) -> StructT:
    """Return a row as a struct. Raises ValidationError for a row that another version wrote."""
    values = row if isinstance(row, Mapping) else row._mapping
    return msgspec.convert({name: values[name] for name in kind.__struct_fields__}, kind, strict=False)


def to_structs(rows: Iterable[Row[Any]], kind: type[StructT]) -> list[StructT]:
    """Return rows as structs."""
    return [to_struct(row, kind) for row in rows]
