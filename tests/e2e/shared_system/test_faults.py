"""Faults, end to end: Binance dies, falls silent, talks garbage, lies; servers restart. The answer stays right.

The same test runs on Kurs in one process and on Kurs split over RabbitMQ, Redis, PostgreSQL and nginx.
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

FRESH_SECONDS = 5.0  # seconds
SLACK_SECONDS = 1.5  # between an answer's making, its caching by nginx and our look at it, on a busy machine
WRONG_PRICE_FACTOR = 10  # percent


both = pytest.mark.parametrize("system", ["whole", "split"], indirect=True)


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    if request.param == "split":
        yield request.getfixturevalue("shared")
        return
    with single_process(tmp_path_factory.mktemp("whole")) as running:
        yield running


@dataclass
class RateSample:
    """What one look at `/v1/courses` told."""

    time: float
    status: int
    exchanger: str
    value: Decimal
    age: float  # seconds, of the oldest of the exchanger's own legs


@dataclass
class RateWatcher:
    """Looks at the answer ten times a second, from the first fresh one to the end."""

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
        answer = client.get(f"{self.url}/v1/courses")
        if answer.status_code != 200:
            self.failures.append(answer.text)
            return
        body = json.loads(answer.text, parse_float=Decimal)
        (value,) = [Decimal(row["value"]) for row in body["courses"] if row["direction"] == "BTC-USD"]
        age = time.time() - int(answer.headers["kurs-as-of"]) / 1000
        self.samples.append(RateSample(time.monotonic(), answer.status_code, body["exchanger"], value, age))

    def wait_for_exchanger(self, exchanger: str) -> None:
        """Wait until the answer comes from that exchanger."""
        wait_until(lambda: bool(self.samples) and self.samples[-1].exchanger == exchanger, f"answers from {exchanger}")


@pytest.fixture(scope="module")
def watch(system: System) -> Iterator[RateWatcher]:
    wait_until(lambda: active_exchanger(system) == "binance", "a first answer from binance")
    watching = RateWatcher(system.url)
    thread = threading.Thread(target=watching.run)
    thread.start()
    yield watching
    watching.ended.set()
    thread.join()


@both
@pytest.mark.parametrize(
    "fault",
    [{"fault": "kill"}, {"fault": "mute"}, {"fault": "garbage"}, {"fault": "price", "percent": WRONG_PRICE_FACTOR}],
    ids=lambda fault: str(fault["fault"]),
)
def test_another_exchange_answers_while_binance_fails(
    system: System, watch: RateWatcher, fault: dict[str, Any]
) -> None:
    """Binance is on its socket before it fails: while it is polled, a mute socket would not matter."""
    watch.wait_for_exchanger("binance")
    wait_until(lambda: binance_transport(system) == "socket", "socket to binance")
    begun = len(watch.samples)
    with httpx.Client(base_url=system.simulator) as control:
        identifier = control.post("/faults", json={"exchange": "binance", **fault}).raise_for_status().json()["id"]
        watch.wait_for_exchanger("deribit")
        control.delete(f"/faults/{identifier}").raise_for_status()
    watch.wait_for_exchanger("binance")
    check_samples(watch, begun, allowed={"binance", "deribit"})


@pytest.mark.parametrize("system", ["split"], indirect=True)
@pytest.mark.parametrize("server", ["rabbit", "redis", "postgres"])
def test_servers_may_restart_under_way(system: System, watch: RateWatcher, server: str) -> None:
    watch.wait_for_exchanger("binance")
    begun = len(watch.samples)
    system.servers[server].restart()
    for process in system.processes.values():
        wait_until(partial(is_ready, process.url), f"{process.name} whose every part works")
    watch.wait_for_exchanger("binance")
    check_samples(watch, begun, allowed={"binance", "deribit", "coingecko"})


@pytest.mark.parametrize("system", ["split"], indirect=True)
@pytest.mark.parametrize("name", ["pricer", "collector binance", "api 1"])
def test_a_killed_process_comes_back_to_its_work(system: System, watch: RateWatcher, name: str) -> None:
    watch.wait_for_exchanger("binance")
    begun = len(watch.samples)
    system.processes[name].kill()
    system.processes[name].start()
    watch.wait_for_exchanger("binance")
    check_samples(watch, begun, allowed={"binance", "deribit", "coingecko"})


def check_samples(watch: RateWatcher, begun: int, allowed: set[str]) -> None:
    """From that look on: no refusal, no wrong price, nothing old passed for fresh, nobody unexpected."""
    seen = watch.samples[begun:]
    usual = watch.samples[0].value
    assert not watch.failures
    assert {look.exchanger for look in seen} <= allowed
    assert max(abs(look.value / usual - 1) for look in seen) < Decimal(WRONG_PRICE_FACTOR) / 100 / 3
    assert max(look.age for look in seen if look.exchanger != "coingecko") <= FRESH_SECONDS + SLACK_SECONDS


def active_exchanger(system: System) -> str | None:
    """Who answers now; None while nobody does."""
    try:
        answer = httpx.get(f"{system.url}/v1/courses", timeout=5)
    except httpx.HTTPError:
        return None
    return str(answer.json()["exchanger"]) if answer.status_code == 200 else None


def binance_transport(system: System) -> str:
    """How binance's prices come now."""
    states = httpx.get(f"{system.url}/v1/exchanges", timeout=5).raise_for_status().json()["exchanges"]
    return next(str(state["transport"]) for state in states if state["exchange"] == "binance")


def is_ready(url: str) -> bool:
    """Whether a process reaches its bus, its cache and its store again."""
    answer = httpx.get(f"{url}/readyz", timeout=10)
    return all(part["ok"] for part in answer.json()["parts"].values())
