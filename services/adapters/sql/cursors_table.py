"""Cursors: how far the trades of each series are built into its candles."""

from collections.abc import Sequence

import sqlalchemy
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql import series_columns as names
from services.adapters.sql.dialect import upsert
from services.adapters.sql.tables import cursors
from services.core.minute_builder import Cursor
from services.core.model import Series


async def save(connection: AsyncConnection, items: Sequence[Cursor]) -> None:
    """Keep each in place of the one of its series."""
    rows = [
        {**names.columns(cursor.series), "number": cursor.number, "time": cursor.time, "since": cursor.since}
        for cursor in items
    ]
    await upsert(connection, cursors, rows)


async def delete(connection: AsyncConnection, series: Series, since: int) -> None:
    """Keep none of a series that is at `since` or later."""
    await connection.execute(sqlalchemy.delete(cursors).where(names.of(cursors, series), cursors.c.time >= since))


async def load(connection: AsyncConnection) -> list[Cursor]:
    """All of them."""
    ordered = select(cursors).order_by(cursors.c.exchange, cursors.c.symbol, cursors.c.timeframe)
    return [
        Cursor(names.read(row.exchange, row.symbol, row.timeframe), row.number, row.time, row.since)
        for row in await connection.execute(ordered)
    ]
