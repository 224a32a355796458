"""Statements that differ between PostgreSQL and SQLite."""

from collections.abc import Mapping, Sequence
from functools import cache

from sqlalchemy import Table, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert(connection: AsyncConnection, table: Table) -> postgresql.Insert:
    """Return an INSERT with ON CONFLICT, which both databases have."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)  # type: ignore[return-value]  # the same methods under another class
    return postgresql.insert(table)


async def upsert(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Write each row in place of the one of its key. The last of equal keys is written."""
    key = [column.name for column in table.primary_key]
    newest = {tuple(row[name] for name in key): row for row in rows}
    new = insert(connection, table)
    values = {column.name: new.excluded[column.name] for column in table.columns if column.name not in key}
    statement = new.on_conflict_do_update(index_elements=key, set_=values)
    # the same order in all writers prevents deadlocks
    await connection.execute(statement, [newest[key] for key in sorted(newest)])


async def merge(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, str | int]]) -> None:
    """Write each row that differs in place of the one of its key; many at once, all numbers and JSON as text."""
    key = [column.name for column in table.primary_key]
    newest = {tuple(row[name] for name in key): row for row in rows}
    ordered = [newest[each] for each in sorted(newest)]  # as above
    if connection.dialect.name == "postgresql":
        names = table.columns.keys()
        columns = tuple([str(row[name]) for row in ordered] for name in names)
        await connection.exec_driver_sql(_merge_statement(table), columns)
        return
    new = insert(connection, table)
    values = {column.name: new.excluded[column.name] for column in table.columns if column.name not in key}
    changed = or_(*(table.c[name] != value for name, value in values.items()))
    await connection.execute(new.on_conflict_do_update(index_elements=key, set_=values, where=changed), ordered)


@cache
def _merge_statement(table: Table) -> str:
    """Return an INSERT of arrays of text, whose members PostgreSQL casts."""
    dialect, key = postgresql.dialect(), [column.name for column in table.primary_key]  # type: ignore[no-untyped-call]
    arrays = ", ".join(
        f"unnest(${number}::text[])::{column.type.compile(dialect)}" for number, column in enumerate(table.columns, 1)
    )
    values = [column.name for column in table.columns if column.name not in key]
    stored, excluded = (", ".join(f"{side}.{name}" for name in values) for side in (table.name, "excluded"))
    return (
        f"INSERT INTO {table.name} ({', '.join(table.columns.keys())}) SELECT {arrays} "  # noqa: S608  our own names
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in values)} "
        f"WHERE ({stored}) IS DISTINCT FROM ({excluded})"
    )
