"""Candles through failed processes and servers.

The tests of this file disturb one system, one after the other. The last one compares every candle of that time with
the exchange's own klines, and the stored indicators and analyses with those computed from these candles.
"""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest

from services.core.model import Instrument, Series
from services.core.timeframes import TIMEFRAMES
from tests import expected_analysis, expected_candles
from tests.e2e.shared_system.standbys import follow_events, run_standbys, take_over_all, wait_for_events
from tests.servers import Server
from tests.system import System
from tests.waiting import wait_until

SEED = 20
SERIES = [Series("binance", Instrument(base, "USDT"), name) for base in ("BTC", "ETH") for name in ("1m", "3m", "5m")]
SETTLE_SECONDS = 300  # from the last fault until every candle is right: minutes have to end and to be fetched
MAX_KILLED_SECONDS, MAX_HUNG_SECONDS = 60, 120  # of a takeover, on a busy machine
MAX_RESETS = 10  # two of each followed channel


def faults(system: System, chance: random.Random) -> dict[str, Callable[[], None]]:
    """Return a function for each fault, which injects it and returns when it is over."""
    collector, writer = system.processes["collector binance"], system.processes["writer"]
    rabbit, postgres, redis = (system.servers[name] for name in ("rabbit", "postgres", "redis"))

    def killed(name: str) -> None:
        system.processes[name].kill()
        time.sleep(chance.uniform(0, 4))
        system.processes[name].start()

    def stopped(server: Any) -> None:
        server.pause()
        time.sleep(chance.uniform(5, 12))
        server.resume()

    def killed_server(server: Any) -> None:
        server.kill()
        server.start()

    def cut_off() -> None:
        seconds = chance.uniform(2, 6)
        fault = {"exchange": "binance", "fault": "kill", "seconds": seconds}
        httpx.post(f"{system.simulator}/faults", json=fault).raise_for_status()
        time.sleep(seconds)  # the test itself requests klines of this exchange afterwards

    return {
        "the collector is killed": partial(killed, "collector binance"),
        "the writer is killed": partial(killed, "writer"),
        "the analyst is killed": partial(killed, "analyst"),
        "the collector is stopped": partial(stopped, collector),
        "the writer is stopped": partial(stopped, writer),
        "the analyst is stopped": partial(stopped, system.processes["analyst"]),
        "RabbitMQ restarts": rabbit.restart,
        "PostgreSQL restarts": postgres.restart,
        "PostgreSQL is killed": partial(killed_server, postgres),
        "Redis restarts": redis.restart,
        "the exchange cuts the connection": cut_off,
    }


@pytest.fixture(scope="module")
def first_disturbed(shared: System) -> int:
    """The time in ms at which the system works and its first disturbance may begin."""
    wait_until(lambda: all(has_candles(shared, series) for series in SERIES), "first candle", SETTLE_SECONDS)
    return now_ms()


@pytest.mark.usefixtures("first_disturbed")
def test_standbys_take_over_from_killed_and_hung_processes_without_skipped_entries(shared: System) -> None:
    with run_standbys(shared) as pairs, follow_events(shared.url) as events:
        killed = take_over_all(pairs, Server.kill, Server.start)
        wait_for_events(events)
        assert "reset" not in events
        hung = take_over_all(pairs, Server.pause, Server.resume)
        wait_for_events(events)
        # a process that hung may have assigned numbers that it never published: its successor resets each topic once
        assert events.count("reset") <= MAX_RESETS
    print(killed, hung)  # noqa: T201  shown when the test fails, and with -s
    assert max(killed.values()) < MAX_KILLED_SECONDS
    assert max(hung.values()) < MAX_HUNG_SECONDS


def test_candles_equal_the_exchanges_klines_after_all_faults(shared: System, first_disturbed: int) -> None:
    chance = random.Random(SEED)
    shuffled = list(faults(shared, chance).items())
    chance.shuffle(shuffled)
    for name, inject in shuffled:
        time.sleep(chance.uniform(0, 3))
        print(f"{time.strftime('%H:%M:%S')} {name}")  # noqa: T201  shown when the test fails
        inject()
    over = TIMEFRAMES["1m"].close_time(TIMEFRAMES["1m"].open_time(now_ms()))
    wait_until(lambda: now_ms() > over, "end of the last minute", SETTLE_SECONDS)
    spans = {series: expected_span(series, first_disturbed, over) for series in SERIES}
    expected = expected_candles.fetch_expected(shared.simulator, spans)
    assert all(expected[series] for series in SERIES if series.timeframe == "1m")
    wrong = list[expected_candles.Difference]()

    def first_differences() -> list[str]:
        return [str(each) for each in wrong[:5]]

    def candles_equal() -> bool:
        wrong[:] = expected_candles.differences(expected, shared.url, shared.database)
        return not wrong

    wait_until(
        candles_equal,
        "candles as the exchange has them",
        SETTLE_SECONDS,
        details=first_differences,
    )
    rows = 0

    def derived_rows_equal() -> bool:
        nonlocal rows
        rows, wrong[:] = expected_analysis.compare(shared.simulator, shared.database, SERIES)
        return not wrong

    wait_until(
        derived_rows_equal,
        "indicators and analyses of these candles",
        SETTLE_SECONDS,
        details=first_differences,
    )
    assert rows >= 30 * len(SERIES)


def expected_span(series: Series, began: int, over: int) -> tuple[int, int]:
    """Return the open times from the candle that was forming at `began` to the last one closed at `over`."""
    frame = TIMEFRAMES[series.timeframe]
    return frame.open_time(began), frame.step_back(frame.open_time(over), 1)


def has_candles(system: System, series: Series) -> bool:
    query = {"symbol": str(series.instrument), "timeframe": series.timeframe}
    response = httpx.get(f"{system.url}/api/chart-data", params=query, timeout=10)
    return response.status_code == 200 and bool(response.json()["candles"])


def now_ms() -> int:
    return int(time.time() * 1000)
