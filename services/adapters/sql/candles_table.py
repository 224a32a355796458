"""Table `candles`: written in bulk, read in ranges. Prices are sent as text: exact, and cheaper than Decimals."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import Select, Text, bindparam, cast, func, or_, select, tuple_
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql import bulk
from services.adapters.sql.series_columns import from_row, series_key, where_series
from services.adapters.sql.tables import candles
from services.core.model import Bar, Candle, CandleSource, Series
from services.core.ranges import TimeRange
from services.core.ranges import from_open_times as runs_of
from services.core.timeframes import TIMEFRAMES
from services.core.times import FAR_FUTURE

# timestamp; open, high, low, close, volume and quote volume as text; trades, closed, source, revision
CandleRow = tuple[int, str, str, str, str, str, str, int, bool, str, int]

SQLITE_CHUNK_ROWS = 500  # in one call; other tasks run in between
KEY = [column.name for column in candles.primary_key]
DECIMAL_COLUMNS = ("open", "high", "low", "close", "volume", "quote_volume")
SOURCES = {origin.value: origin for origin in CandleSource}
VALUES = [*DECIMAL_COLUMNS, "trades", "closed", "source", "revision"]
_ROW = (
    candles.c.timestamp,
    *(cast(candles.c[name], Text).label(name) for name in DECIMAL_COLUMNS),
    *(candles.c[name] for name in ("trades", "closed", "source", "revision")),
)
_IN_RANGE = select(*_ROW).where(
    *(candles.c[name] == bindparam(name) for name in KEY[:3]),
    candles.c.timestamp.between(bindparam("since"), bindparam("until")),
    or_(candles.c.closed, candles.c.timestamp >= bindparam("forming_since")),
)
_OLDEST = _IN_RANGE.order_by(candles.c.timestamp).limit(bindparam("limit"))
_NEWEST = _IN_RANGE.order_by(candles.c.timestamp.desc()).limit(bindparam("limit"))
_DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]
_COMPILED = {query: query.compile(dialect=_DIALECT) for query in (_OLDEST, _NEWEST)}
_ASYNCPG = {query: (str(compiled), compiled.positiontup or []) for query, compiled in _COMPILED.items()}


def to_runs(items: Iterable[Candle]) -> list[bulk.CandleRun]:
    """Return the last candle of each key, in the key's order, which is the same for all writers."""
    newest: defaultdict[Series, dict[int, Candle]] = defaultdict(dict)
    for series, together in groupby(items, attrgetter("series")):
        newest[series].update({item.bar.open_time: item for item in together})
    runs = [bulk.CandleRun(series_key(series), [run[key] for key in sorted(run)]) for series, run in newest.items()]
    return sorted(runs, key=itemgetter(0))


async def save(connection: AsyncConnection, runs: Sequence[bulk.CandleRun], frontier: bulk.SeenRange) -> None:
    """Save each candle in place of the one of its key."""
    now = time.time_ns() // 1_000_000
    if connection.dialect.name == "postgresql":
        await bulk.save(connection, runs, frontier, now)
        return
    items = ((run.key, candle) for run in runs for candle in run.candles)
    while chunk := list(islice(items, SQLITE_CHUNK_ROWS)):
        await connection.exec_driver_sql(_SQLITE_UPSERT, [_to_row(key, candle, now) for key, candle in chunk])


def _sqlite_upsert() -> str:
    """Return SQLite's statement as text. SQLAlchemy would process each value of each row again."""
    new = sqlite.insert(candles)
    statement = new.on_conflict_do_update(
        index_elements=KEY,
        set_={name: new.excluded[name] for name in VALUES},
        where=or_(*(candles.c[name] != new.excluded[name] for name in VALUES)),
    )
    return str(statement.compile(dialect=sqlite.dialect()))


_SQLITE_UPSERT = _sqlite_upsert()


class RangeQuery(NamedTuple):
    """Parameters: `limit` open times in [since, until]; candles that are not closed only from `forming_since` on."""

    since: int
    until: int
    limit: int
    forming_since: int


def range_query(since: int, until: int, limit: int | None, forming_since: int | None) -> RangeQuery:
    """Return a query's parameters; None: without that bound."""
    return RangeQuery(since, until, limit or FAR_FUTURE, -FAR_FUTURE if forming_since is None else forming_since)


async def select_oldest(connection: AsyncConnection, series: Series, span: RangeQuery) -> Sequence[CandleRow]:
    """Return the oldest candles of a range, oldest first."""
    return await _fetch(connection, _OLDEST, series, span)


async def select_latest(connection: AsyncConnection, series: Series, span: RangeQuery) -> Sequence[CandleRow]:
    """Return the newest candles of a range, oldest first."""
    return (await _fetch(connection, _NEWEST, series, span))[::-1]


async def _fetch(
    connection: AsyncConnection, query: Select[Any], series: Series, span: RangeQuery
) -> Sequence[CandleRow]:
    """Fetch rows, on PostgreSQL without SQLAlchemy, whose row objects would take longer than the database's query."""
    parameters = dict(zip(KEY[:3], series_key(series), strict=True)) | span._asdict()
    rows: Sequence[CandleRow]
    if connection.dialect.name != "postgresql":
        rows = (await connection.execute(query, parameters)).all()
        return rows
    text, order = _ASYNCPG[query]
    driver: Any = (await connection.get_raw_connection()).driver_connection
    rows = await driver.fetch(text, *(parameters[name] for name in order))
    return rows


async def unconfirmed_ranges(connection: AsyncConnection, series: Series, since: int, until: int) -> list[TimeRange]:
    """Return ranges of open times of closed candles that were built from trades."""
    query = _where(select(candles.c.timestamp), series, since, until).order_by(candles.c.timestamp)
    ticks = query.where(candles.c.closed, candles.c.source == CandleSource.TRADES.value)
    return runs_of(TIMEFRAMES[series.timeframe], await connection.scalars(ticks))


async def delete_from(connection: AsyncConnection, series: Series, since: int) -> int:
    """Delete candles with open times from `since` on. Return how many."""
    of_series = where_series(candles, series)
    done = await connection.execute(sqlalchemy.delete(candles).where(of_series, candles.c.timestamp >= since))
    return int(done.rowcount)


async def list_series(connection: AsyncConnection) -> dict[Series, tuple[int, int]]:
    """Return every series with its first and last open time. It steps from one to the next in the index: few exist."""
    rows: dict[Series, tuple[int, int]] = {}
    key = [candles.c[name] for name in KEY[:3]]
    first = select(*key).order_by(*key).limit(1)
    row = (await connection.execute(first)).first()
    while row:
        series = from_row(*row)
        ends = _where(select(func.min(candles.c.timestamp), func.max(candles.c.timestamp)), series, None, None)
        rows[series] = (await connection.execute(ends)).one()
        row = (await connection.execute(first.where(tuple_(*key) > tuple_(*row)))).first()
    return rows


def to_candles(series: Series, rows: Iterable[CandleRow]) -> list[Candle]:
    """Convert rows to candles."""
    return [
        Candle(
            series,
            Bar(open_time, Decimal(o), Decimal(h), Decimal(low), Decimal(c), Decimal(volume), Decimal(quote), trades),
            closed,
            SOURCES[source],
            revision,
        )
        for open_time, o, h, low, c, volume, quote, trades, closed, source, revision in rows
    ]


def _where(query: Any, series: Series, since: int | None, until: int | None) -> Any:
    query = query.where(where_series(candles, series))
    if since is not None:
        query = query.where(candles.c.timestamp >= since)
    return query if until is None else query.where(candles.c.timestamp <= until)


def _to_row(key: tuple[str, str, str], candle: Candle, now: int) -> tuple[str | int, ...]:
    """Return the values of all columns, in their order."""
    bar = candle.bar
    prices = (f"{price:f}" for price in (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume))
    return (*key, bar.open_time, *prices, bar.trades, candle.closed, candle.source.value, candle.revision, now)
