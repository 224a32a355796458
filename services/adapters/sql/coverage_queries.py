"""Queries of which candles of a series are stored, and which are missing."""

from typing import Any

from sqlalchemy import ColumnElement, Text, and_, case, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql import candle_gaps_table
from services.adapters.sql.series_columns import where_series
from services.adapters.sql.tables import candles
from services.core.coverage import SeriesCoverage
from services.core.model import Series
from services.core.timeframes import DAY_MS, TIMEFRAMES, Timeframe

LONGEST_MONTH_MS = 31 * DAY_MS


async def missing_ranges(connection: AsyncConnection, series: Series, since: int, until: int) -> list[tuple[int, int]]:
    """Return ranges of open times in [since, until], both ends inclusive, without a closed candle."""
    timeframe, timestamp = TIMEFRAMES[series.timeframe], candles.c.timestamp
    previous = func.lag(timestamp).over(order_by=timestamp).label("previous")
    following = func.lead(timestamp).over(order_by=timestamp).label("following")
    closed = _where_closed(select(timestamp, previous, following), series, since, until).subquery()
    step = timeframe.length or LONGEST_MONTH_MS
    edges = select(closed).where(
        or_(closed.c.previous.is_(None), closed.c.following.is_(None), closed.c.following - closed.c.timestamp > step)
    )
    ranges, next_open_time = list[tuple[int, int]](), since
    for open_time, before, after in await connection.execute(edges.order_by(closed.c.timestamp)):
        if before is None:
            ranges += _range_of_open_times(timeframe, since, open_time - 1)
        next_open_time = timeframe.close_time(open_time)
        if after is not None and next_open_time < after:
            ranges += _range_of_open_times(timeframe, next_open_time, after - 1)
    return ranges + _range_of_open_times(timeframe, next_open_time, until)


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


def _where_closed(query: Any, series: Series, since: int, until: int) -> Any:
    open_time = candles.c.timestamp
    return query.where(where_series(candles, series), open_time >= since, open_time <= until, candles.c.closed)


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
