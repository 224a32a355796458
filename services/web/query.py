"""Query structs: each field is one parameter, which is parsed and described in OpenAPI by the same annotation.

A field's type decides how its text is parsed: `str`, `int`, `float`, `bool`, an enum, or a tuple for a comma list.
`Meta` adds bounds, a description, and an example for the error that says what to write. For text of another form
`Meta(extra={"parse": …})` names a function, which raises ValueError with what is wrong.

    class FeesQuery(Struct, kw_only=True, frozen=True):
        symbol: Annotated[str, Meta(description="BTC-USDT or BTCUSDT", examples=["BTCUSDT"])]
        limit: Annotated[Annotated[int, Meta(ge=1, le=1000)] | None, Meta(description="The oldest so many")] = None
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from functools import cache, partial
from math import isfinite
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import parse_qs

from msgspec import NODEFAULT, Meta, Struct, inspect

from services.core.errors import BadRange, BadRequest, unknown_name

MAX_QUERY_BYTES = 2_000
MAX_PARAMETERS = 50
MAX_NUMBER_LENGTH = 20  # characters; int() of a longer text takes long
CACHE_BUSTER = "_"  # some clients add a parameter of this name so that no cache responds
BOOLEANS = {"false": False, "0": False, "true": True, "1": True}
UnknownNames = Annotated[tuple[str, ...], Meta(extra={"unknown": True})]
"""A field of this type takes the names of unknown parameters. Without such a field they are an error."""
WholeText = Annotated[str, Meta(extra={"parse": str})]
"""A text in which commas do not separate values."""

NO_PATH: Mapping[str, str] = {}
QueryT = TypeVar("QueryT", bound=Struct)


class NoQuery(Struct, frozen=True):
    """The query of an endpoint without parameters. Unknown parameters are ignored."""

    unknown: UnknownNames = ()


class QueryParameter(NamedTuple):
    """One parameter of a query struct."""

    field: str
    name: str
    required: bool
    is_list: bool
    splits: bool
    schema: Mapping[str, Any]
    description: str
    parse: Callable[[str], Any]
    """From one value's text. Raises BadRequest, BadRange, UnknownName."""

    def value(self, values: Sequence[str]) -> Any:
        """Return the field's value from the texts of the parameter, of which there is at least one."""
        if any("\0" in value for value in values):  # a database cannot store it
            raise BadRequest(f"{self.name}: U+0000 is not accepted")
        if self.splits:
            values = [part for value in values for part in value.split(",")]
        values = list(dict.fromkeys(filter(None, map(str.strip, values))))
        if not values:
            raise self.missing()
        if self.is_list:
            return tuple(map(self.parse, values))
        if len(values) > 1:
            raise BadRequest(f"{self.name} has {len(values)} values, one is accepted")
        return self.parse(values[0])

    def missing(self) -> BadRequest:
        """Return the error for a required parameter without a value."""
        examples = self.schema.get("examples", ())
        return BadRequest(f"{self.name} is missing" + "".join(f": write {self.name}={each}" for each in examples[:1]))


def parse(query: type[QueryT], text: bytes, path: Mapping[str, str] = NO_PATH) -> QueryT:
    """Parse a query string, and the parameters in a path. Raises BadRequest, BadRange, UnknownName."""
    texts, known, values = split(text), parameters(query), dict[str, Any]()
    unknown = tuple(name for name in texts if (name not in known or name in path) and name != CACHE_BUSTER)
    if field := unknown_field(query):
        values[field] = unknown
    elif unknown:
        raise _unknown(unknown[0], [name for name in known if name not in path])
    texts |= {name: [value] for name, value in path.items()}
    for name, parameter in known.items():
        if name in texts:
            values[parameter.field] = parameter.value(texts[name])
        elif parameter.required:
            raise parameter.missing()
    return query(**values)


def split(text: bytes) -> dict[str, list[str]]:
    """Split a query string into the values of each parameter. Raises BadRequest."""
    if len(text) > MAX_QUERY_BYTES:
        raise BadRequest(f"the query string is {len(text)} bytes long, at most {MAX_QUERY_BYTES} are accepted")
    try:
        fields = parse_qs(text.decode("ascii", "replace"), max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise BadRequest(f"the query string has more than {MAX_PARAMETERS} parameters") from None
    return {name: values for name, values in fields.items() if any(value.strip(", ") for value in values)}


@cache
def parameters(query: type[Struct]) -> Mapping[str, QueryParameter]:
    """Return the parameters of a query struct by their names."""
    fields = [each for each in _fields(query) if not _flat(each.type).extra.get("unknown")]
    return {each.encode_name: _parameter(each) for each in fields}


@cache
def unknown_field(query: type[Struct]) -> str:
    """Return the name of the struct's field for unknown parameters, "" if they are an error."""
    return next((each.name for each in _fields(query) if _flat(each.type).extra.get("unknown")), "")


def describe(query: type[Struct], path: str) -> list[dict[str, Any]]:
    """Return a query struct as parameters of OpenAPI. Those that the path names in braces are parts of it."""
    return [
        {
            "name": each.name,
            "in": "path" if f"{{{each.name}}}" in path else "query",
            "required": each.required,
            "description": each.description,
            "schema": dict(each.schema),
        }
        for each in parameters(query).values()
    ]


class _Flat(NamedTuple):
    """A field's type without its annotations and None."""

    type: inspect.Type
    schema: dict[str, Any]
    extra: dict[str, Any]


def _fields(query: type[Struct]) -> Sequence[inspect.Field]:
    info = inspect.type_info(query)
    return info.fields if isinstance(info, inspect.StructType) else ()


def _flat(type_: inspect.Type) -> _Flat:
    """Merge the annotations of a type; the outer ones win."""
    if isinstance(type_, inspect.Metadata):
        inner = _flat(type_.type)
        schema, extra = type_.extra_json_schema or {}, type_.extra or {}
        return _Flat(inner.type, {**inner.schema, **schema}, {**inner.extra, **extra})
    if isinstance(type_, inspect.UnionType):
        (inner_type,) = (each for each in type_.types if not isinstance(each, inspect.NoneType))
        return _flat(inner_type)
    return _Flat(type_, {}, {})


def _parameter(field: inspect.Field) -> QueryParameter:
    name, flat = field.encode_name, _flat(field.type)
    is_list = isinstance(flat.type, inspect.VarTupleType)
    item = _flat(flat.type.item_type) if isinstance(flat.type, inspect.VarTupleType) else flat
    schema = flat.schema | ({"type": "string"} if is_list or "parse" in item.extra else _schema(item.type))
    schema["title"] = name.replace("_", " ").title()
    if field.default not in (NODEFAULT, None, "", ()):
        schema["default"] = field.default.value if isinstance(field.default, Enum) else field.default
    return QueryParameter(
        field.name,
        name,
        required=field.required,
        is_list=is_list,
        splits=item.extra.get("parse") is not str,
        schema={key: value for key, value in schema.items() if key != "description"},
        description=str(flat.schema.get("description", "")),
        parse=_parser(name, item),
    )


def _schema(type_: inspect.Type) -> dict[str, Any]:
    """Return the JSON Schema of one value."""
    match type_:
        case inspect.IntType(ge=least, le=most) | inspect.FloatType(ge=least, le=most):
            kind = "integer" if isinstance(type_, inspect.IntType) else "number"
            bounds = {"minimum": least, "maximum": most}
            return {"type": kind} | {key: value for key, value in bounds.items() if value is not None}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.EnumType(cls=names):
            return {"type": "string", "enum": [str(each.value) for each in names]}
        case inspect.StrType():
            return {"type": "string"}
    raise TypeError(f"a parameter cannot be a {type_}")


def _parser(name: str, flat: _Flat) -> Callable[[str], Any]:
    """Return what parses one value, and raises what is wrong with it."""
    parse: Callable[[str], Any]
    if function := flat.extra.get("parse"):
        return partial(_converted, name, function)
    match flat.type:
        case inspect.IntType(ge=least, le=most):
            parse = partial(_integer, name, least, most)
        case inspect.FloatType(ge=least, le=most):
            parse = partial(_number, name, least, most)
        case inspect.BoolType():
            parse = partial(_boolean, name)
        case inspect.EnumType(cls=names):
            parse = partial(_member, name, names)
        case _:
            choices = flat.schema.get("enum")
            parse = partial(_choice, name, choices) if choices else str
    return parse


def _converted(name: str, function: Callable[[str], Any], text: str) -> Any:
    try:
        return function(text)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None


def _integer(name: str, least: int | None, most: int | None, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"{name}: {text[:40]!r} is not a whole number: write a number {_bounds_text(least, most)}")
    if len(text) > MAX_NUMBER_LENGTH or not _within(int(text), least, most):
        raise BadRange(f"{name}: {text[:20]} is not {_bounds_text(least, most)}")
    return int(text)


def _number(name: str, least: float | None, most: float | None, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadRequest(f"{name}: {text[:40]!r} is not a number") from None
    if not (isfinite(value) and _within(value, least, most)):
        raise BadRange(f"{name}: {text[:20]} is not {_bounds_text(least, most)}")
    return value


def _bounds_text(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return f"at least {least}" if most is None else f"at most {most}"
    return f"from {least} to {most}"


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in BOOLEANS:
        raise BadRequest(f"{name}: {text[:20]!r} is neither true nor false")
    return BOOLEANS[text.lower()]


def _choice(name: str, choices: Sequence[str], text: str) -> str:
    if text not in choices:
        raise unknown_name(name, text, choices)
    return text


def _member(name: str, members: type[Enum], text: str) -> Enum:
    """Parse a member's value; its case does not count."""
    return members(_choice(name, [str(each.value) for each in members], text.lower()))


def _unknown(name: str, known: Collection[str]) -> BadRequest:
    """A parameter that is ignored would be a filter that its client relies on."""
    near = get_close_matches(name[:40], known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return BadRequest(f"there is no parameter {name[:40]!r}; {hint}there are: {', '.join(known)}")
