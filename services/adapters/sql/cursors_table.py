"""Table `cursors`: the last trade built into the candles of each series."""

from collections.abc import Sequence

import sqlalchemy
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import upsert
from services.adapters.sql.series_columns import as_columns, from_row, where_series
from services.adapters.sql.tables import cursors
from services.core.minute_builder import TradeCursor
from services.core.model import Series


async def save(connection: AsyncConnection, items: Sequence[TradeCursor]) -> None:
    """Save each in place of the one of its series."""
    rows = [
        {
            **as_columns(cursor.series),
            "number": cursor.trade_id,
            "time": cursor.time,
            "since": cursor.complete_since,
        }
        for cursor in items
    ]
    await upsert(connection, cursors, rows)


async def delete_from(connection: AsyncConnection, series: Series, since: int) -> None:
    """Delete the cursor of a series if it is at `since` or later."""
    await connection.execute(sqlalchemy.delete(cursors).where(where_series(cursors, series), cursors.c.time >= since))


async def load(connection: AsyncConnection) -> list[TradeCursor]:
    """Load all cursors."""
    ordered = select(cursors).order_by(cursors.c.exchange, cursors.c.symbol, cursors.c.timeframe)
    return [
        TradeCursor(from_row(row.exchange, row.symbol, row.timeframe), row.number, row.time, row.since)
        for row in await connection.execute(ordered)
    ]
