"""Queries of which candles of a series are stored, and which are missing."""

from typing import Any

from sqlalchemy import ColumnElement, Text, and_, case, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql import candle_gaps_table
from services.adapters.sql import series_columns as names
from services.adapters.sql.tables import candles
from services.core.coverage import SeriesCoverage
from services.core.model import Series
from services.core.timeframes import DAY_MS, TIMEFRAMES, Timeframe

LONGEST_MONTH_MS = 31 * DAY_MS


async def missing_ranges(connection: AsyncConnection, series: Series, since: int, until: int) -> list[tuple[int, int]]:
    """Return ranges of open times in [since, until], both ends inclusive, without a closed candle."""
    timeframe, here = TIMEFRAMES[series.timeframe], candles.c.timestamp
    previous = func.lag(here).over(order_by=here).label("previous")
    following = func.lead(here).over(order_by=here).label("following")
    kept = _where_closed(select(here, previous, following), series, since, until).subquery()
    step = timeframe.length or LONGEST_MONTH_MS
    edges = select(kept).where(
        or_(kept.c.previous.is_(None), kept.c.following.is_(None), kept.c.following - kept.c.timestamp > step)
    )
    found, begin = list[tuple[int, int]](), since
    for opening, before, after in await connection.execute(edges.order_by(kept.c.timestamp)):
        if before is None:
            found += _range_of_open_times(timeframe, since, opening - 1)
        begin = timeframe.close_time(opening)
        if after is not None and begin < after:
            found += _range_of_open_times(timeframe, begin, after - 1)
    return found + _range_of_open_times(timeframe, begin, until)


async def coverage(connection: AsyncConnection, series: Series, since: int, until: int) -> SeriesCoverage:
    """Return which closed candles with open times in [since, until] are stored."""
    gaps = await missing_ranges(connection, series, since, until)
    timeframe = TIMEFRAMES[series.timeframe]
    expected = timeframe.count_between(since, until)
    counts = _where_closed(
        select(
            func.coalesce(func.sum(case((_is_empty(), 1), else_=0)), 0),
            func.coalesce(func.sum(case((candles.c.revision > 0, 1), else_=0)), 0),
        ),
        series,
        since,
        until,
    )
    empty, revised = (await connection.execute(counts)).one()
    return SeriesCoverage(
        series,
        since,
        until,
        expected,
        expected - sum(timeframe.count_between(*gap) for gap in gaps),
        empty,
        revised,
        tuple(gaps),
        tuple(await candle_gaps_table.load_overlapping(connection, series, since, until)),
    )


def _where_closed(question: Any, series: Series, since: int, until: int) -> Any:
    here = candles.c.timestamp
    return question.where(names.where_series(candles, series), here >= since, here <= until, candles.c.closed)


def _range_of_open_times(timeframe: Timeframe, since: int, until: int) -> list[tuple[int, int]]:
    """Return the first and the last open time in [since, until] as one range, if there is one."""
    first = next(timeframe.open_times(since, until), None)
    return [] if first is None else [(first, timeframe.open_time(until))]


def _is_empty() -> ColumnElement[bool]:
    """Return the condition of an empty candle: `Candle.kind` in SQL."""
    volume = func.ltrim(cast(candles.c.volume, Text), "0.") == ""
    return and_(candles.c.trades == 0, volume, _canonical_text(candles.c.high) == _canonical_text(candles.c.low))


def _canonical_text(price: ColumnElement[object]) -> ColumnElement[str]:
    """Return the same text for equal numbers, also where prices are stored as text."""
    text = cast(price, Text)
    return func.rtrim(case((text.like("%.%"), text), else_=text + "."), "0")
