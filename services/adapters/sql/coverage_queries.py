"""What of a series is kept, and what is missing."""

from typing import Any

from sqlalchemy import ColumnElement, Text, and_, case, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql import candle_gaps_table
from services.adapters.sql import series_columns as names
from services.adapters.sql.tables import candles
from services.core.coverage import Coverage
from services.core.model import Series
from services.core.timeframes import DAY, TIMEFRAMES, Timeframe

LONGEST_MONTH = 31 * DAY


async def missing(connection: AsyncConnection, series: Series, since: int, until: int) -> list[tuple[int, int]]:
    """Runs of openings in [since, until], both ends inclusive, without a closed candle."""
    timeframe, here = TIMEFRAMES[series.timeframe], candles.c.timestamp
    previous = func.lag(here).over(order_by=here).label("previous")
    following = func.lead(here).over(order_by=here).label("following")
    kept = _closed(select(here, previous, following), series, since, until).subquery()
    step = timeframe.length or LONGEST_MONTH
    edges = select(kept).where(
        or_(kept.c.previous.is_(None), kept.c.following.is_(None), kept.c.following - kept.c.timestamp > step)
    )
    found, begin = list[tuple[int, int]](), since
    for opening, before, after in await connection.execute(edges.order_by(kept.c.timestamp)):
        if before is None:
            found += _openings(timeframe, since, opening - 1)
        begin = timeframe.closing(opening)
        if after is not None and begin < after:
            found += _openings(timeframe, begin, after - 1)
    return found + _openings(timeframe, begin, until)


async def coverage(connection: AsyncConnection, series: Series, since: int, until: int) -> Coverage:
    """What is kept of the closed openings in [since, until]."""
    gaps = await missing(connection, series, since, until)
    timeframe = TIMEFRAMES[series.timeframe]
    expected = timeframe.expected(since, until)
    counts = _closed(
        select(
            func.coalesce(func.sum(case((_empty(), 1), else_=0)), 0),
            func.coalesce(func.sum(case((candles.c.revision > 0, 1), else_=0)), 0),
        ),
        series,
        since,
        until,
    )
    empty, revised = (await connection.execute(counts)).one()
    return Coverage(
        series,
        since,
        until,
        expected,
        expected - sum(timeframe.expected(*gap) for gap in gaps),
        empty,
        revised,
        tuple(gaps),
        tuple(await candle_gaps_table.touching(connection, series, since, until)),
    )


def _closed(question: Any, series: Series, since: int, until: int) -> Any:
    here = candles.c.timestamp
    return question.where(names.of(candles, series), here >= since, here <= until, candles.c.closed)


def _openings(timeframe: Timeframe, since: int, until: int) -> list[tuple[int, int]]:
    """The first and the last opening in [since, until], when there is one."""
    first = next(timeframe.openings(since, until), None)
    return [] if first is None else [(first, timeframe.opening(until))]


def _empty() -> ColumnElement[bool]:
    """Candle.kind, in SQL."""
    volume = func.ltrim(cast(candles.c.volume, Text), "0.") == ""
    return and_(candles.c.trades == 0, volume, _digits(candles.c.high) == _digits(candles.c.low))


def _digits(price: ColumnElement[object]) -> ColumnElement[str]:
    """The same text for the same number, also where prices are kept as text."""
    text = cast(price, Text)
    return func.rtrim(case((text.like("%.%"), text), else_=text + "."), "0")
