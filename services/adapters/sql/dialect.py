"""Where PostgreSQL and SQLite differ in what we ask of them."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert(connection: AsyncConnection, table: Table) -> postgresql.Insert:
    """An INSERT that knows ON CONFLICT, which both spell alike."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)  # type: ignore[return-value]  # the same methods under another class
    return postgresql.insert(table)


async def upsert(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Each row in place of the one of its key, the last of `rows` winning."""
    key = [column.name for column in table.primary_key]
    newest = {tuple(row[name] for name in key): row for row in rows}
    new = insert(connection, table)
    rest = {column.name: new.excluded[column.name] for column in table.columns if column.name not in key}
    statement = new.on_conflict_do_update(index_elements=key, set_=rest)
    # in one order everywhere, so that two writers cannot lock each other out
    await connection.execute(statement, [newest[key] for key in sorted(newest)])
