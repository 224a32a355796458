"""Indicators beside TA-Lib called directly and pandas-ta-classic alone, in one run: `python -m loadtest.bench_indicators`.

All compute the same set over the same thousand candles: ours as an answer is computed, TA-Lib on the bare arrays,
pandas-ta-classic by itself and on TA-Lib, as its users call it, on a frame that is at hand. A request is a question that
nobody has asked before, from its query string to the bytes of its JSON: the history that the first value needs is
computed as well, over candles that this process has at hand. All take turns, so that a busy moment of the machine is
everyone's; medians count.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from loadtest.outcome import Target
from services import api
from services.adapters import sql
from services.adapters.memory import MemoryBus, MemoryCache
from services.core import indicators
from services.core.indicators import Columns
from services.core.indicators.library import talib
from services.core.model import Bar, Candle, Instrument, Origin, Series
from services.core.timeframes import MINUTE, TIMEFRAMES
from services.exchanges import chosen
from services.hub import Hub
from services.ports import Deps
from services.settings import Settings
from services.web import Front

SET = indicators.parse(
    "sma:10,sma:20,sma:50,sma:100,sma:200,ema:12,ema:26,ema:50,ema:100,bbands,ichimoku,rsi,macd,stoch,willr,volume,obv"
)
COUNT, HISTORY, ROUNDS = 1_000, 16_000, 60
NOW = 1_800_000_000_000 // MINUTE * MINUTE
SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")
M1 = TIMEFRAMES["1m"]
LOADS = {"numpy": "numpy", "Kurs's indicators": "services.core.indicators", "pandas-ta-classic": "pandas_ta_classic"}


def main() -> int:
    """Run it all; 1 when a target is missed."""
    found = asyncio.run(measured())
    for name, value in found.items():
        print(f"{name:56} {value:10,.3f}")
    reached = targets(found)
    print(*reached, sep="\n")
    return 0 if all(target.reached for target in reached) else 1


def targets(found: Mapping[str, float]) -> list[Target]:
    """What Kurs promises."""
    return [
        Target("indicators' arithmetic, of TA-Lib on arrays", found["ours / TA-Lib"], most=1.5),
        Target(
            "a request with JSON, of pandas-ta-classic's arithmetic", found["request / pandas-ta-classic"], most=1 / 3
        ),
        Target("a warm answer, of one of chart data", found["warm / chart data"], most=1.5),
    ]


async def measured() -> dict[str, float]:
    """All figures by name: ms, and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        store = await sql.connect(await migrated(Path(folder)))
        rows = candles()
        await store.save(*rows)
        fronts = api.FRONTS(deps(store))
        spent = await timed(indicators.columns(rows[-COUNT:]), fronts)
        await store.close()
    figures = {f"{name}, ms": median(seconds) * 1000 for name, seconds in spent.items()}
    return {**figures, **ratios(spent), **loading()}


async def timed(columns: Columns, fronts: Mapping[str, Front]) -> dict[str, list[float]]:
    """Seconds of each, in turn."""
    spent: dict[str, list[float]] = defaultdict(list)
    frame = Frame(columns)
    computing: Mapping[str, Callable[[], object]] = {
        "TA-Lib on arrays": lambda: direct(columns),
        "ours": lambda: [indicators.compute(asked, columns, M1) for asked in SET],
        "pandas-ta-classic": lambda: frame.computed(talib=False),
        "pandas-ta-classic on TA-Lib": lambda: frame.computed(talib=True),
    }
    names = ",".join(map(str, SET))
    for number in range(ROUNDS):
        for name, compute in computing.items():
            await noted(spent, name, threaded(compute))
        until = NOW - (2_000 + number) * MINUTE
        period = f"symbol=BTCUSDT&timeframe=1m&from={until - (COUNT - 1) * MINUTE}&to={until}"
        queries = {
            "request": (fronts["/api/indicators"], f"{period}&indicators={names}".encode()),
            "chart data": (fronts["/api/chart-data"], period.encode()),
        }
        for name, (front, query) in queries.items():
            await noted(spent, name, lambda: front.wait(query, {}))  # noqa: B023
        for name, (front, query) in queries.items():
            await noted(spent, f"{name}, warm", lambda: warm(front, query))  # noqa: B023
    return spent


async def noted(spent: dict[str, list[float]], name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do it, and note the seconds it took."""
    start = time.perf_counter()
    await work()
    spent[name].append(time.perf_counter() - start)
