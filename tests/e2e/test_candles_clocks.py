"""Candles while wall clocks are wrong and are set: they equal the exchange's, and the clock error is reported.

A candle is over by the exchange's clock, so the clocks of Kurs are shifted against that of the simulator.
"""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.adapters import sql
from services.core.model import Candle, CandleGap, CandleGapState, Instrument, Series
from services.core.seals import Seal
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from tests import expected_candles, servers
from tests.conftest import require_installed
from tests.shifted_clock import ShiftedClock
from tests.system import FAST_SETTINGS, System, distributed, single_process
from tests.waiting import wait_until

HOUR = 3600
SERIES = [Series("binance", Instrument("BTC", "USDT"), name) for name in ("1m", "3m", "5m", "15m", "1h", "1d")]
ENV = {**FAST_SETTINGS, "KURS_HISTORY_BARS": "1", "KURS_SYMBOLS": "BTC-USDT", "KURS_DIRECTIONS": "BTC-USDT"}


@pytest.mark.parametrize("kind", ["single", "split"])
def test_candles_equal_the_exchanges_while_clocks_are_wrong(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    names = "collector", "writer"
    clocks = require_installed(lambda: [ShiftedClock(tmp_path / name, 180) for name in names])
    with run_system(kind, tmp_path, request, *clocks) as system:
        wait_until(partial(reports_clock, system, 180), "an offset of three minutes")
        wait_until(lambda: is_complete(system), "closed candles")
        log = system.processes["kurs" if kind == "single" else "collector binance"].folder / "log"
        warning = re.compile(r"binance: its clock is 1(79|8[0-2])\.\d s behind ours")
        wait_until(lambda: warning.search(log.read_text()) is not None, "a warning")
        minute = TIMEFRAMES["1m"].open_time(now_ms())
        for shifts in ((-HOUR, HOUR), (24 * HOUR, -HOUR), (0, 24 * HOUR), (0, 0)):
            before = forming_minute(system)
            for clock, seconds in zip(clocks, shifts, strict=True):
                clock.set(seconds)
            wait_until(partial(reports_clock, system, shifts[0]), "the current offset")
            wait_until(partial(has_changed, system, before), "a change of the forming candle")
            assert not impossible_rows(system)
        wait_until(lambda: is_complete(system, minute), "the minute in which the clocks were set")
        assert not impossible_rows(system)
        wait_until(lambda: courses_status(system) == 200, "a rate")
        assert log.read_text().count("binance: its clock agrees with ours again") == 1


@contextmanager
def run_system(
    kind: str, folder: Path, request: pytest.FixtureRequest, collector: ShiftedClock, writer: ShiftedClock
) -> Iterator[System]:
    """Run Kurs with these clocks of collector and writer. A single process has the collector's."""
    if kind == "single":
        with single_process(folder, ENV, collector) as system:
            yield system
        return
    private: servers.PrivateServers = request.getfixturevalue("private")
    with distributed(folder, private, ENV, {"collector binance": collector, "writer": writer}) as system:
        yield system


def impossible_rows(system: System) -> list[object]:
    """Return stored rows that must not exist: candles that are from the future, closed too early or absent; seals."""
    rows, gaps, seals = asyncio.run(stored_rows(system))
    early = [row for row in rows if row.bar.open_time > now_ms() or (row.closed and close_time(row) > now_ms())]
    absent = [gap for gap in gaps if gap.series.exchange == "binance"]
    return [*early, *absent, *(seal for seal in seals if seal.day + DAY_MS > now_ms())]


def is_complete(system: System, minute: int | None = None) -> bool:
    """Return whether that minute, or otherwise the last closed candle of each series, equals the exchange's."""
    settled = now_ms() - 20_000
    last = {series: (frame := TIMEFRAMES[series.timeframe]).step_back(frame.open_time(settled), 1) for series in SERIES}
    wanted = last if minute is None else {SERIES[0]: minute}
    true = expected_candles.fetch_expected(
        system.simulator, {series: (opening, opening) for series, opening in wanted.items()}
    )
    rows = {(row.series, row.bar.open_time): row for row in asyncio.run(stored_rows(system))[0]}
    known = ((bar, rows.get((series, opening))) for series, bars in true.items() for opening, bar in bars.items())
    return all(row is not None and row.closed and row.bar == bar for bar, row in known)


async def stored_rows(system: System) -> tuple[list[Candle], list[CandleGap], list[Seal]]:
    """Return the newest candles of each series, absent candle gaps, and seals."""
    store = await sql.connect(system.database)
    try:
        candles = [row for series in SERIES for row in await store.latest_candles(series, FAR_FUTURE, 10)]
        seals = [seal for series in SERIES for seal in await store.seals(series, 0, FAR_FUTURE)]
        return candles, await store.candle_gaps(CandleGapState.ABSENT), seals
    finally:
        await store.close()


def forming_minute(system: System) -> object:
    """Return the stored forming minute."""
    return next(
        (row for row in asyncio.run(stored_rows(system))[0] if not row.closed and row.series == SERIES[0]), None
    )


def has_changed(system: System, before: object) -> bool:
    """Return whether the stored forming minute differs from `before`."""
    return forming_minute(system) not in (before, None)


def reports_clock(system: System, ahead: int) -> bool:
    """Return whether /v1/exchanges has this clock offset, or names a wrong clock of the collector."""
    answer = httpx.get(f"{system.url}/v1/exchanges", timeout=10)
    found: list[dict[str, Any]] = answer.json()["exchanges"] if answer.status_code == 200 else []
    for known in (each for each in found if each["exchange"] == "binance"):
        offset = known["clock_offset_ms"]
        if offset is not None and abs(offset + ahead * 1000) < 2_000:
            return True
        return ahead != 0 and not known["connected"] and "clock" in known["reason"]
    return False


def courses_status(system: System) -> int:
    """Return the status of /v1/courses."""
    return httpx.get(f"{system.url}/v1/courses", timeout=10).status_code


def close_time(candle: Candle) -> int:
    """Return the close time of a candle."""
    return TIMEFRAMES[candle.series.timeframe].close_time(candle.bar.open_time)


def now_ms() -> int:
    """Return the exchange's time in ms."""
    return int(time.time() * 1000)
