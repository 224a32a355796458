"""Candles through faults: whatever is killed, stopped or restarted, in the end they are the exchange's own, and what
is kept of indicators and analyses is what they come to."""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx

from services.core.model import Instrument, Series
from services.core.timeframes import TIMEFRAMES
from tests import expected_analysis, expected_candles
from tests.system import System

SEED = 20
SERIES = [Series("binance", Instrument(base, "USDT"), name) for base in ("BTC", "ETH") for name in ("1m", "3m", "5m")]
DEADLINE_SECONDS = 150  # seconds from the last fault to the whole truth: minutes have to end, and to be asked for


def faults(system: System, chance: random.Random) -> dict[str, Callable[[], None]]:
    """Each thing that goes wrong, and is over when the function returns."""
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
        time.sleep(seconds)  # the test itself asks this exchange afterwards

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
        "the exchange cuts us off": cut_off,
    }


def test_every_candle_is_the_exchanges_own_after_all_faults(shared: System) -> None:
    system = shared
    wait_until(lambda: all(has_candles(system, series) for series in SERIES), "a first candle")
    chance, began = random.Random(SEED), now_ms()
    happening = list(faults(system, chance).items())
    chance.shuffle(happening)
    for name, happen in happening:
        time.sleep(chance.uniform(1, 6))
        print(f"{time.strftime('%H:%M:%S')} {name}")  # noqa: T201  shown when the test fails
        happen()
    over = TIMEFRAMES["1m"].close_time(TIMEFRAMES["1m"].open_time(now_ms()))
    wait_until(lambda: now_ms() > over, "end of the last minute")
    true = expected_candles.fetch_expected(
        system.simulator, {series: expected_span(series, began, over) for series in SERIES}
    )
    assert all(true[series] for series in SERIES if series.timeframe == "1m")
    wrong = list[expected_candles.Difference]()

    def well() -> bool:
        wrong[:] = expected_candles.differences(true, system.url, system.database)
        return not wrong

    wait_until(well, "candles as the exchange has them", wrong)
    looked = 0

    def told() -> bool:
        nonlocal looked
        looked, wrong[:] = expected_analysis.compare(system.simulator, system.database, SERIES)
        return not wrong

    wait_until(told, "indicators and analyses as these candles come to", wrong)
    assert looked >= 30 * len(SERIES)


def expected_span(series: Series, began: int, over: int) -> tuple[int, int]:
    """The openings of what was forming at the beginning, up to what was closed at the end."""
    frame = TIMEFRAMES[series.timeframe]
    return frame.open_time(began), frame.step_back(frame.open_time(over), 1)


def has_candles(system: System, series: Series) -> bool:
    """Whether Kurs has candles of a series."""
    query = {"symbol": str(series.instrument), "timeframe": series.timeframe}
    answer = httpx.get(f"{system.url}/api/chart-data", params=query, timeout=10)
    return answer.status_code == 200 and bool(answer.json()["candles"])


def now_ms() -> int:
    """The time in ms."""
    return int(time.time() * 1000)


def wait_until(condition: Callable[[], bool], what: str, seen: Sequence[object] = ()) -> None:
    """Wait for a condition, up to the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {DEADLINE_SECONDS} s: {[str(each) for each in seen[:5]]}"
        time.sleep(0.5)
