"""Indicators of Kurs, TA-Lib and pandas-ta-classic, in one run: `python -m loadtest.bench_indicators`.

All compute the same set over the same thousand candles: Kurs as for a response, TA-Lib on arrays, pandas-ta-classic
without and with TA-Lib on prepared series. A request is measured from its query string to the bytes of its JSON, and
is not cached, so that the lookback before the first value is computed as well, over candles in memory. The cases are
measured in turn, so that other load on the machine affects all of them. The figures are medians.
"""

import asyncio
import gc
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from statistics import median

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # first: TA-Lib accepts its series only if it is imported before
import pandas_ta_classic as ta  # type: ignore[import-untyped]
import talib

from loadtest import results
from loadtest.results import FigureBench, Target
from services import api
from services.adapters import sql
from services.adapters.memory import MemoryCache
from services.core import indicators
from services.core.indicators import OhlcvColumns
from services.core.indicators.talib_import import MA_SIMPLE
from services.core.model import Bar, Candle, CandleSource, Instrument, Series
from services.core.timeframes import MINUTE_MS, TIMEFRAMES
from services.exchanges import configured_exchanges
from services.settings import Settings
from services.web import EndpointServer, make_servers
from tests.clocks import ManualClock
from tests.deps import make_deps

SMA, EMA, LINES = (10, 20, 50, 100, 200), (12, 26, 50, 100), (9, 26, 52)
OTHERS = ("bbands", "ichimoku", "rsi", "macd", "stoch", "willr", "volume", "obv")
NAMES = ",".join([*(f"sma:{period}" for period in SMA), *(f"ema:{period}" for period in EMA), *OTHERS])
SET = indicators.parse_specs(NAMES)
COUNT, HISTORY, ROUNDS = 1_000, 16_000, 60
NOW = 1_800_000_000_000
CACHE_SECONDS = 0.02  # seconds in which a response is cached for other replicas, before the next request
M1 = TIMEFRAMES["1m"]
SERIES = Series("binance", Instrument("BTC", "USDT"), M1.name)
LOADED = ("numpy", "services.core.indicators", "pandas_ta_classic")
Spent = dict[str, list[float]]


def main() -> int:
    """Run the benchmark. Return 1 when a target is missed."""
    figures = {**asyncio.run(measure()), **measure_imports()}
    for name, value in figures.items():
        print(f"{name:56} {value:10,.3f}")
    targets = make_targets(figures)
    print(*targets, sep="\n")
    return results.save_and_exit_code("indicators", FigureBench(results.machine_info(), figures, targets))


def make_targets(figures: Mapping[str, float]) -> list[Target]:
    """Return the targets of these figures."""
    return [
        Target("indicators' arithmetic, of TA-Lib on arrays", figures["ours / TA-Lib"], at_most=1.5),
        Target(
            "a new request, of pandas-ta-classic's arithmetic", figures["request / pandas-ta-classic"], at_most=1 / 3
        ),
        Target("a cached response, of one of chart data", figures["warm request / warm chart data"], at_most=1.5),
    ]


async def measure() -> dict[str, float]:
    """Return medians in ms, and ratios, each the median over the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        url, rows = f"sqlite+aiosqlite:///{folder}/kurs.db", candles()
        await sql.migrate(url)
        store = await sql.connect(url)
        await store.save(*rows)
        settings = Settings(_env_file=None)
        cache = MemoryCache(most_bytes=0)  # empty: nothing has been computed before
        deps = make_deps(
            settings, clock=ManualClock(NOW), cache=cache, store=store, exchanges=configured_exchanges(settings)
        )
        servers = make_servers(api.endpoints(deps), deps.clock, deps.hub)
        by_path = {server.endpoint.path: server for server in servers}
        spent = await measure_in_turn(indicators.to_columns(rows[-COUNT:]), by_path)
        await store.close()
    ratios = {
        "ours / TA-Lib": ("ours", "TA-Lib on arrays"),
        "ours / pandas-ta-classic": ("ours", "pandas-ta-classic"),
        "request / pandas-ta-classic": ("request", "pandas-ta-classic"),
        "request / pandas-ta-classic on TA-Lib": ("request", "pandas-ta-classic on TA-Lib"),
        "warm request / warm chart data": ("request, warm", "chart data, warm"),
    }
    return {
        **{f"{name}, ms": median(seconds) * 1000 for name, seconds in spent.items()},
        **{
            name: median(ours / theirs for ours, theirs in zip(spent[one], spent[other], strict=True))
            for name, (one, other) in ratios.items()
        },
    }


async def measure_in_turn(columns: OhlcvColumns, endpoints: Mapping[str, EndpointServer]) -> Spent:
    """Return the seconds of each case in each round, without the first round, which imports and fills caches."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)  # as Kurs runs
    spent: Spent = defaultdict(list)
    computing = compute_by_all(columns)
    queries = {
        "request": (endpoints["/api/indicators"], f"&indicators={NAMES}"),
        "chart data": (endpoints["/api/chart-data"], ""),
    }
    for number in range(ROUNDS + 1):
        for name, compute in computing.items():
            timed(spent, name, compute)
        until = NOW - (2_000 + number) * MINUTE_MS
        period = f"symbol=BTCUSDT&timeframe=1m&from={until - (COUNT - 1) * MINUTE_MS}&to={until}"
        for name, (endpoint, more) in queries.items():
            query = (period + more).encode()
            await request_cold(spent, name, endpoint, query)
            timed(spent, f"{name}, warm", partial(request_warm, endpoint, query))
    return {name: seconds[1:] for name, seconds in spent.items()}


def compute_by_all(columns: OhlcvColumns) -> dict[str, Callable[[], object]]:
    """Return the computation of the set by each library."""
    alone, on_talib = (compute_by_pandas_ta(columns, talib) for talib in (False, True))
    return {
        "TA-Lib on arrays": lambda: compute_by_talib(columns),
        "ours": lambda: [indicators.compute(spec, columns, M1) for spec in SET],
        "pandas-ta-classic": alone,
        "pandas-ta-classic on TA-Lib": on_talib,
    }


def compute_by_talib(columns: OhlcvColumns) -> None:
    """Compute the set with TA-Lib on arrays."""
    _, _, high, low, close, volume = columns
    for period in SMA:
        talib.SMA(close, period)
    for period in EMA:
        talib.EMA(close, period)
    talib.BBANDS(close, 20, 2.0, 2.0)
    short, middle, _ = (talib.MIDPRICE(high, low, period) for period in LINES)
    (short + middle) / 2
    talib.RSI(close, 14)
    talib.MACD(close, 12, 26, 9)
    talib.STOCH(high, low, close, 14, 1, MA_SIMPLE, 3, MA_SIMPLE)
    talib.WILLR(high, low, close, 14)
    talib.SMA(volume, 20)
    talib.OBV(close, volume)


def compute_by_pandas_ta(columns: OhlcvColumns, on_talib: bool) -> Callable[[], None]:
    """Return the computation with pandas-ta-classic, on prepared series."""
    index = pd.to_datetime(columns.open_times, unit="ms")
    high, low, close, volume = (pd.Series(column, index=index) for column in columns[2:])

    def run() -> None:
        for period in SMA:
            ta.sma(close, period, talib=on_talib)
        for period in EMA:
            ta.ema(close, period, talib=on_talib)
        ta.bbands(close, 20, 2, talib=on_talib)
        ta.ichimoku(high, low, close)
        ta.rsi(close, 14, talib=on_talib)
        ta.macd(close, 12, 26, 9, talib=on_talib)
        ta.stoch(high, low, close, 14, 3, 1, talib=on_talib)
        ta.willr(high, low, close, 14, talib=on_talib)
        ta.sma(volume, 20, talib=on_talib)
        ta.obv(close, volume, talib=on_talib)

    return run


def timed(spent: Spent, name: str, work: Callable[[], object]) -> None:
    """Run `work` and record its duration in seconds."""
    start = time.perf_counter()
    work()
    spent[name].append(time.perf_counter() - start)


async def request_cold(spent: Spent, name: str, endpoint: EndpointServer, query: bytes) -> None:
    """Send a request for the first time, and record the seconds until its response."""
    start = time.perf_counter()
    response = await endpoint.read(query, {})
    spent[name].append(time.perf_counter() - start)
    await asyncio.sleep(CACHE_SECONDS)
    assert response.status == 200
    assert len(response.body) > 100_000


def request_warm(endpoint: EndpointServer, query: bytes) -> None:
    """Send the same request a thousand times."""
    for _ in range(1_000):
        assert endpoint.ready(query, {})


def measure_imports() -> dict[str, float]:
    """Return the seconds and MB that an import costs a new process, without those of the interpreter."""
    costs = {module: import_cost(module) for module in ("sys", *LOADED)}
    seconds, size = costs.pop("sys")
    return {
        f"load {module}, {unit}": value
        for module, (took, grew) in costs.items()
        for unit, value in (("s", took - seconds), ("MB", grew - size))
    }


def import_cost(module: str) -> tuple[float, float]:
    """Return the seconds and MB of a process that imports the module; the fastest of three."""
    program = f"import {module}; print(*open('/proc/self/status'))"
    runs = list[tuple[float, float]]()
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)  # noqa: S603
        size = int(done.stdout.partition("VmRSS:")[2].split()[0])
        runs.append((time.perf_counter() - start, size / 1024))
    return min(runs)


def candles() -> list[Candle]:
    """Return a random walk of more than a week of minutes, because OBV is summed over a week."""
    rng = np.random.default_rng(1)
    closes = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.0005, HISTORY)))
    spreads, volumes = rng.exponential(15, HISTORY), rng.lognormal(0, 1, HISTORY)
    rows = zip(closes, np.r_[closes[:1], closes[:-1]], spreads, volumes, strict=True)
    return [candle(NOW - (HISTORY - place) * MINUTE_MS, *map(float, row)) for place, row in enumerate(rows)]


def candle(opening: int, close: float, before: float, spread: float, volume: float) -> Candle:
    """Return a candle with as many digits as Bitcoin's."""
    prices = before, max(before, close) + spread, min(before, close) - spread, close
    o, h, low, c = (Decimal(f"{price:.2f}") for price in prices)
    return Candle(SERIES, Bar(opening, o, h, low, c, Decimal(f"{volume:.5f}"), c, 9), True, CandleSource.EXCHANGE)


if __name__ == "__main__":
    sys.exit(main())
