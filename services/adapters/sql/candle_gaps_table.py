"""Table `holes`: candle gaps, the ranges of missing closed candles, with their state."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.dialect import upsert
from services.adapters.sql.series_columns import as_columns, from_row, where_series
from services.adapters.sql.tables import holes
from services.core.model import CandleGap, CandleGapState, CandleSource, Series

ORDER = ("exchange", "symbol", "timeframe", "since", "until")
_DELETE_REPLACED = sqlalchemy.delete(holes).where(
    *(holes.c[name] == bindparam(f"of_{name}") for name in ("exchange", "symbol", "timeframe", "since")),
    holes.c.until != bindparam("of_until"),
    holes.c.state == CandleGapState.OPEN.value,
)


async def save(connection: AsyncConnection, items: Sequence[CandleGap]) -> None:
    """Save each candle gap in place of the one of the same range, and of an open one that begins at the same time.

    The writer knows an open gap by its first open time: it may have become shorter, or longer.
    """
    await upsert(connection, holes, [_to_row(gap) for gap in items])
    newest = {(gap.series, gap.since): gap for gap in items}
    keys = [{f"of_{name}": value for name, value in _to_row(gap).items() if name in ORDER} for gap in newest.values()]
    await connection.execute(_DELETE_REPLACED, keys)


async def load(
    connection: AsyncConnection, state: CandleGapState, series: Series | None = None, limit: int | None = None
) -> list[CandleGap]:
    """Load all candle gaps in that state, or those of one series; the newest `limit`."""
    query = select(holes).where(holes.c.state == state.value)
    if series is not None:
        query = query.where(where_series(holes, series))
    if limit is not None:
        newest = query.order_by(holes.c.since.desc(), holes.c.until.desc()).limit(limit).subquery()
        query = select(newest)
    return await _fetch(connection, query)


async def load_overlapping(connection: AsyncConnection, series: Series, since: int, until: int) -> list[CandleGap]:
    """Load candle gaps of a series that overlap [since, until], oldest first."""
    of_series = select(holes).where(where_series(holes, series))
    return await _fetch(connection, of_series.where(holes.c.until >= since, holes.c.since <= until))


async def delete_from(connection: AsyncConnection, series: Series, since: int) -> None:
    """Delete the candle gaps of a series that begin at `since` or later."""
    await connection.execute(sqlalchemy.delete(holes).where(where_series(holes, series), holes.c.since >= since))


async def _fetch(connection: AsyncConnection, query: Select[Any]) -> list[CandleGap]:
    ordered = query.order_by(*(query.selected_columns[name] for name in ORDER))
    return [
        CandleGap(
            from_row(row.exchange, row.symbol, row.timeframe),
            row.since,
            row.until,
            row.noticed,
            CandleGapState(row.state),
            row.settled,
            CandleSource(row.origin) if row.origin else None,
        )
        for row in await connection.execute(ordered)
    ]


def _to_row(gap: CandleGap) -> dict[str, object]:
    return {
        **as_columns(gap.series),
        "since": gap.since,
        "until": gap.until,
        "noticed": gap.detected,
        "state": gap.state.value,
        "settled": gap.resolved,
        "origin": gap.repaired_from and gap.repaired_from.value,
    }
