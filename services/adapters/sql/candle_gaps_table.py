"""Holes: runs of closed candles that were missing, and what became of them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql import series_columns as names
from services.adapters.sql.dialect import upsert
from services.adapters.sql.tables import holes
from services.core.model import Hole, HoleState, Origin, Series

ORDER = ("exchange", "symbol", "timeframe", "since", "until")


async def save(connection: AsyncConnection, items: Sequence[Hole]) -> None:
    """Keep each hole in place of the one of the same run."""
    await upsert(connection, holes, [_row(hole) for hole in items])


async def load(
    connection: AsyncConnection, state: HoleState, series: Series | None = None, limit: int | None = None
) -> list[Hole]:
    """All holes in that state, or those of one series; the newest `limit` of them."""
    found = select(holes).where(holes.c.state == state.value)
    if series is not None:
        found = found.where(names.of(holes, series))
    if limit is not None:
        newest = found.order_by(holes.c.since.desc(), holes.c.until.desc()).limit(limit).subquery()
        found = select(newest)
    return await _found(connection, found)


async def touching(connection: AsyncConnection, series: Series, since: int, until: int) -> list[Hole]:
    """Holes of a series that touch [since, until], oldest first."""
    mine = select(holes).where(names.of(holes, series))
    return await _found(connection, mine.where(holes.c.until >= since, holes.c.since <= until))


async def delete(connection: AsyncConnection, series: Series, since: int) -> None:
    """Keep no holes of a series that begin from `since` on."""
    await connection.execute(sqlalchemy.delete(holes).where(names.of(holes, series), holes.c.since >= since))


async def _found(connection: AsyncConnection, question: Select[Any]) -> list[Hole]:
    ordered = question.order_by(*(question.selected_columns[name] for name in ORDER))
    return [
        Hole(
            names.read(row.exchange, row.symbol, row.timeframe),
            row.since,
            row.until,
            row.noticed,
            HoleState(row.state),
            row.settled,
            Origin(row.origin) if row.origin else None,
        )
        for row in await connection.execute(ordered)
    ]


def _row(hole: Hole) -> dict[str, object]:
    return {
        **names.columns(hole.series),
        "since": hole.since,
        "until": hole.until,
        "noticed": hole.noticed,
        "state": hole.state.value,
        "settled": hole.settled,
        "origin": hole.origin and hole.origin.value,
    }
