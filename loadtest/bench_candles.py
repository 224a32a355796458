"""The store of candles compared with bare PostgreSQL, in one run: `make bench ONLY=candles`.

Writing: rows per second of `save` as a share of a bare COPY of the same rows, encoded before, into the same table: as
many at once as a busy writer saves, and fewer. Reading: a thousand candles out of a million and out of ten million,
compared with the same rows fetched through a bare connection from an index that holds all of them. The cases are
measured in turn, so that other load on the machine affects all of them. The figures are medians.
"""

import asyncio
import io
import random
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from statistics import median, quantiles
from typing import TypeVar

import asyncpg  # type: ignore[import-untyped]
import uvloop
from sqlalchemy.schema import AddConstraint

from loadtest import results
from loadtest.results import FigureBench, Target
from services.adapters import sql
from services.adapters.sql.engine import make_engine
from services.adapters.sql.tables import candles
from services.core.model import Bar, Candle, CandleSource, Instrument, Series
from services.core.timeframes import MINUTE_MS
from tests import servers

PAGE_CANDLES, PAGES, BATCHES, READS = 1_000, 5, 40, 400
MILLION = 1_000_000
MINUTES_PER_SERIES = 50_000  # per series, when reading
START_MS = 1_580_515_200_000  # 2020-02-01
T = TypeVar("T")
Timings = defaultdict[str, list[float]]


def main() -> int:
    """Run the benchmark. Return 1 when a target is missed."""
    try:
        with (
            servers.private_servers() as private,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):  # the services' loop
            figures = runner.run(measure(private.postgres))
    except servers.NotInstalled as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    for name, value in figures.items():
        print(f"{name:46} {value:10,.2f}")
    targets = make_targets(figures)
    print(*targets, sep="\n")
    return results.save_and_exit_code("candles", FigureBench(results.machine_info(), figures, targets))


def make_targets(figures: dict[str, float]) -> list[Target]:
    """Return the targets of these figures."""
    return [
        Target("new candles, of COPY", figures["save, new history / COPY"], at_least=0.85),
        Target("changed candles, of COPY", figures["save, changed history / COPY"], at_least=0.7),
        Target("p99 at ten million rows, of that at one", figures["read, p99 at 10 M / at 1 M"], at_most=1.5),
        Target("p50, of a bare index-only scan", figures["read, p50 / the index alone"], at_most=3),
    ]


async def measure(server: servers.Postgres) -> dict[str, float]:
    """Return all figures by name: rows per second, ms, and ratios."""
    return {**await measure_writing(server), **await measure_reading(server)}


async def measure_writing(server: servers.Postgres) -> dict[str, float]:
    """Measure COPY and `save` in turn: a page of each of several series, one page, and one minute of many series."""
    url = server.create_database()
    await sql.migrate(url)
    store, bare = await sql.connect(url), await connect(url)
    spent, sizes = Timings(list), dict[str, int]()
    for number in range(BATCHES):
        for shape in (history, page, live):
            name, rows = shape.__name__, shape("bare", number, "1")
            sizes[name], body = len(rows), copy_lines(rows)
            await timed(spent, f"COPY, {name}", lambda: bare.copy_to_table("candles", source=io.BytesIO(body)))  # noqa: B023
            for state, price in (("new", "1"), ("same", "1"), ("changed", "2")):
                batch = shape("ours", number, price)
                await timed(spent, f"save, {state} {name}", lambda: store.save(*batch))  # noqa: B023
    await bare.close()
    await store.close()
    speeds = {name: sizes[name.split()[-1]] / median(seconds) for name, seconds in spent.items()}
    ratios = {
        f"{name} / COPY": speed / speeds[f"COPY, {name.split()[-1]}"]
        for name, speed in speeds.items()
        if "save" in name
    }
    return speeds | ratios


async def measure_reading(server: servers.Postgres) -> dict[str, float]:
    """Measure the same queries of a million and of ten million rows of `candles`, and of an index of ten million."""
    sizes = {"1 M": MILLION // MINUTES_PER_SERIES, "10 M": 10 * MILLION // MINUTES_PER_SERIES}
    stores = {name: await sql.connect(await create_filled_database(server, series)) for name, series in sizes.items()}
    bare = await connect(await create_filled_database(server, sizes["10 M"], COVERING))
    spent = Timings(list)
    for _ in range(READS):
        for name, count in sizes.items():
            series, since, until = random_page(count)
            rows = await timed(spent, f"candles, {name}", lambda: stores[name].candles(series, since, until))  # noqa: B023
            assert len(rows) == PAGE_CANDLES
        series, since, until = random_page(sizes["10 M"])
        key = series.exchange, str(series.instrument), series.timeframe, since, until
        assert len(await timed(spent, "the index alone, 10 M", lambda: bare.fetch(SCAN, *key))) == PAGE_CANDLES  # noqa: B023
    for each in (*stores.values(), bare):
        await each.close()
    figures = {
        f"read, {part} of {name}, ms": value for name, times in spent.items() for part, value in p50_and_p99(times)
    }
    ours, scan = "candles, 10 M, ms", "the index alone, 10 M, ms"
    return {
        **figures,
        "read, p99 at 10 M / at 1 M": figures[f"read, p99 of {ours}"] / figures["read, p99 of candles, 1 M, ms"],
        "read, p50 / the index alone": figures[f"read, p50 of {ours}"] / figures[f"read, p50 of {scan}"],
    }


def random_page(count: int) -> tuple[Series, int, int]:
    """Return one of `count` series at random, and the first and last open time of a page of it."""
    since = START_MS + random.randrange(MINUTES_PER_SERIES - PAGE_CANDLES) * MINUTE_MS
    return series_named("ours", random.randrange(count)), since, since + (PAGE_CANDLES - 1) * MINUTE_MS


SCAN = """
SELECT timestamp, open::text, high::text, low::text, close::text, volume::text, trades, closed, source, revision
FROM candles WHERE exchange = $1 AND symbol = $2 AND timeframe = $3 AND timestamp BETWEEN $4 AND $5 ORDER BY timestamp
"""
COVERING = """
CREATE INDEX ON candles (exchange, symbol, timeframe, timestamp)
INCLUDE (open, high, low, close, volume, trades, closed, source, revision)
"""
FILL = """
INSERT INTO candles
SELECT 'ours', 'A' || series || '-USDT', '1m', minute, price, price + 10, price - 10, price + 1, round(price / 7919, 5),
    price * 13, minute % 997, true, 'exchange', 0, minute
FROM generate_series($1::bigint, $2::bigint, 60000) minute, generate_series(0, $3::int - 1) series,
    LATERAL (SELECT ((minute / 60000 * 7919 + series * 104729) % 10000000) / 100.0 AS price) prices
"""


async def create_filled_database(server: servers.Postgres, series: int, index: str = "") -> str:
    """Create a database of `series` series, with the rows in the order of arrival. Return its URL."""
    url = server.create_database()
    await sql.migrate(url)
    bare, engine = await connect(url), make_engine(url, 600)
    await bare.execute("ALTER TABLE candles DROP CONSTRAINT pk_candles")  # building the index once is faster
    await bare.execute(FILL, START_MS, START_MS + (MINUTES_PER_SERIES - 1) * MINUTE_MS, series)
    async with engine.begin() as each:
        await each.run_sync(lambda sync: sync.execute(AddConstraint(candles.primary_key)))
    if index:
        await bare.execute(index)
    await bare.execute("VACUUM ANALYZE candles")
    await bare.close()
    await engine.dispose()
    return url


async def connect(url: str) -> asyncpg.Connection:
    """Open a connection without the adapter."""
    return await asyncpg.connect(url.replace("+asyncpg", ""), command_timeout=600)


async def timed(spent: Timings, name: str, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` and record its duration in seconds."""
    start = time.perf_counter()
    result = await work()
    spent[name].append(time.perf_counter() - start)
    return result


def p50_and_p99(seconds: Sequence[float]) -> list[tuple[str, float]]:
    """Return the median and the 99th percentile in ms."""
    cuts = quantiles(seconds, n=100)
    return [("p50", cuts[49] * 1000), ("p99", cuts[98] * 1000)]


def series_named(exchange: str, number: int) -> Series:
    """Return one of many series."""
    return Series(exchange, Instrument(f"A{number}", "USDT"), "1m")


def history(exchange: str, number: int, price: str) -> list[Candle]:
    """Return a thousand minutes of each of five series."""
    return [row for series in range(PAGES) for row in _minutes(series_named(exchange, series), number, price)]


def page(exchange: str, number: int, price: str) -> list[Candle]:
    """Return a thousand minutes of one of ten series."""
    return _minutes(series_named(exchange, PAGES + number % 10), number, price)


def live(exchange: str, number: int, price: str) -> list[Candle]:
    """Return one minute of a thousand series."""
    return [candle(series_named(exchange, 100 + series), number, price) for series in range(PAGE_CANDLES)]


def _minutes(series: Series, number: int, price: str) -> list[Candle]:
    return [candle(series, number * PAGE_CANDLES + minute, price) for minute in range(PAGE_CANDLES)]


def candle(series: Series, minute: int, price: str) -> Candle:
    """Return a candle with as many digits as Bitcoin's."""
    value = Decimal(f"6{minute % 10_000:04}.{price}7")
    amount = Decimal(f"{minute % 89}.{minute % 99_991:05}")
    bar = Bar(START_MS + minute * MINUTE_MS, value, value + 3, value - 3, value, amount, amount * value, minute % 5_000)
    return Candle(series, bar, True, CandleSource.EXCHANGE)


def copy_lines(rows: Sequence[Candle]) -> bytes:
    """Encode candles in COPY's text format."""
    return "".join(
        "\t".join(map(str, (*_key(row), *_prices(row.bar), row.bar.trades, row.closed, row.source, row.revision, 1)))
        + "\n"
        for row in rows
    ).encode()


def _key(row: Candle) -> tuple[object, ...]:
    return (*row.series, row.bar.open_time)


def _prices(bar: Bar) -> tuple[Decimal, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume


if __name__ == "__main__":
    sys.exit(main())
