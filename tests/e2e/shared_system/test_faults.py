"""Rates while Binance is down, silent, malformed or wrong, and while servers restart: they stay right and fresh.

The tests run on Kurs in one process and on Kurs split over RabbitMQ, Redis, PostgreSQL and nginx.
"""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest

from tests.system import System, single_process
from tests.waiting import wait_until

FRESH_SECONDS = 5.0
SLACK_SECONDS = 1.5  # nginx caches a response for a second
WRONG_PRICE_FACTOR = 10  # percent


both = pytest.mark.parametrize("system", ["single", "split"], indirect=True)


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    if request.param == "split":
        yield request.getfixturevalue("shared")
        return
    with single_process(tmp_path_factory.mktemp("single")) as running:
        yield running


@dataclass
class RateSample:
    """One response of `/v1/courses`."""

    time: float
    status: int
    exchanger: str
    value: Decimal
    age: float  # in seconds when it was requested, of the oldest of the exchanger's own legs


@dataclass
class RateWatcher:
    """A client that requests `/v1/courses` ten times a second, from the first fresh rates to the end."""

    url: str
    samples: list[RateSample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(timeout=5) as client:
            while not self.ended.wait(0.1):
                try:
                    self._sample(client)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))

    def _sample(self, client: httpx.Client) -> None:
        requested_at = time.time()
        answer = client.get(f"{self.url}/v1/courses")
        if answer.status_code != 200:
            self.failures.append(answer.text)
            return
        body = json.loads(answer.text, parse_float=Decimal)
        (value,) = [Decimal(row["value"]) for row in body["courses"] if row["direction"] == "BTC-USD"]
        age = requested_at - int(answer.headers["kurs-as-of"]) / 1000
        self.samples.append(RateSample(time.monotonic(), answer.status_code, body["exchanger"], value, age))

    def wait_for_exchanger(self, exchanger: str) -> None:
        """Wait until the rates are those of an exchange."""
        wait_until(lambda: bool(self.samples) and self.samples[-1].exchanger == exchanger, f"rates of {exchanger}")


@pytest.fixture(scope="module")
def rate_watcher(system: System) -> Iterator[RateWatcher]:
    wait_until(lambda: active_exchanger(system) == "binance", "first rates of binance")
    watcher = RateWatcher(system.url)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    yield watcher
    watcher.ended.set()
    thread.join()


@both
@pytest.mark.parametrize(
    "fault",
    [{"fault": "kill"}, {"fault": "mute"}, {"fault": "garbage"}, {"fault": "price", "percent": WRONG_PRICE_FACTOR}],
    ids=lambda fault: str(fault["fault"]),
)
def test_another_exchange_is_active_while_binance_fails(
    system: System, rate_watcher: RateWatcher, fault: dict[str, Any]
) -> None:
    """Binance streams before the fault begins, because a muted socket does not matter while it is polled."""
    rate_watcher.wait_for_exchanger("binance")
    wait_until(lambda: binance_transport(system) == "socket", "socket to binance")
    begun = len(rate_watcher.samples)
    with httpx.Client(base_url=system.simulator) as control:
        identifier = control.post("/faults", json={"exchange": "binance", **fault}).raise_for_status().json()["id"]
        rate_watcher.wait_for_exchanger("deribit")
        control.delete(f"/faults/{identifier}").raise_for_status()
    rate_watcher.wait_for_exchanger("binance")
    check_samples(rate_watcher, begun, allowed={"binance", "deribit"})


@pytest.mark.parametrize("system", ["split"], indirect=True)
@pytest.mark.parametrize("server", ["rabbit", "redis", "postgres"])
def test_rates_stay_right_while_a_server_restarts(system: System, rate_watcher: RateWatcher, server: str) -> None:
    rate_watcher.wait_for_exchanger("binance")
    begun = len(rate_watcher.samples)
    system.servers[server].restart()
    for process in system.processes.values():
        wait_until(partial(is_ready, process.url), f"{process.name} with all components")
    rate_watcher.wait_for_exchanger("binance")
    check_samples(rate_watcher, begun, allowed={"binance", "deribit", "coingecko"})


@pytest.mark.parametrize("system", ["split"], indirect=True)
@pytest.mark.parametrize("name", ["pricer", "collector binance", "api 1"])
def test_rates_stay_right_while_a_process_is_killed_and_restarted(
    system: System, rate_watcher: RateWatcher, name: str
) -> None:
    rate_watcher.wait_for_exchanger("binance")
    begun = len(rate_watcher.samples)
    system.processes[name].kill()
    system.processes[name].start()
    rate_watcher.wait_for_exchanger("binance")
    check_samples(rate_watcher, begun, allowed={"binance", "deribit", "coingecko"})


def check_samples(rate_watcher: RateWatcher, begun: int, allowed: set[str]) -> None:
    """Check the samples from `begun` on: no refusal, no wrong price, no stale rate, no other exchange."""
    seen = rate_watcher.samples[begun:]
    usual = rate_watcher.samples[0].value
    assert not rate_watcher.failures
    assert {sample.exchanger for sample in seen} <= allowed
    assert max(abs(sample.value / usual - 1) for sample in seen) < Decimal(WRONG_PRICE_FACTOR) / 100 / 3
    assert max(sample.age for sample in seen if sample.exchanger != "coingecko") <= FRESH_SECONDS + SLACK_SECONDS


def active_exchanger(system: System) -> str | None:
    """Return the active exchange, None while no rates are served."""
    try:
        answer = httpx.get(f"{system.url}/v1/courses", timeout=5)
    except httpx.HTTPError:
        return None
    return str(answer.json()["exchanger"]) if answer.status_code == 200 else None


def binance_transport(system: System) -> str:
    """Return Binance's current transport."""
    states = httpx.get(f"{system.url}/v1/exchanges", timeout=5).raise_for_status().json()["exchanges"]
    return next(str(state["transport"]) for state in states if state["exchange"] == "binance")


def is_ready(url: str) -> bool:
    """Return whether a process reaches its bus, its cache and its store."""
    answer = httpx.get(f"{url}/readyz", timeout=10)
    return all(part["ok"] for part in answer.json()["parts"].values())
