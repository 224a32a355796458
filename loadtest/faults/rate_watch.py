"""Requests rates during faults, to check that they are available, fresh and right."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import httpx

from loadtest.background import BackgroundThread

POLL_SECONDS = 0.2
FRESH_MS = 5_000
SLACK_MS = 1_500  # a response may be cached by nginx, and the machine is busy
MAX_DEVIATION_SHARE = 0.005  # by which a rate may differ: exchanges differ, and it may be 5 s old
REFERENCE = "coingecko"  # its prices are minutes old, and it says so in their time


class RateAnswer(NamedTuple):
    """A response with rates, or a failed request. `at`: seconds of the wall clock."""

    at: float
    exchanger: str = ""  # empty: the request failed
    as_of: int = 0  # ms
    age: int = 0  # ms, of the oldest of the exchanger's own values
    values: Mapping[str, Decimal] = {}


class Outage(NamedTuple):
    """A time without rates, in seconds of the wall clock."""

    since: float
    until: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.until - self.since


class RateWatch(BackgroundThread):
    """A thread that requests rates five times a second. A `with` block starts and stops it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = f"{url}/v1/courses"
        self.answers: list[RateAnswer] = []

    def run(self) -> None:
        """Request rates until the thread is stopped."""
        with httpx.Client(timeout=2) as client:
            while not self.stop_requested.wait(POLL_SECONDS):
                self.answers.append(self._poll(client))

    def _poll(self, client: httpx.Client) -> RateAnswer:
        requested_at = time.time()
        try:
            answer = client.get(self._url).raise_for_status()
        except httpx.HTTPError:
            return RateAnswer(requested_at)
        body = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)
        as_of, values = int(answer.headers["kurs-as-of"]), {row["direction"]: row["value"] for row in body["courses"]}
        return RateAnswer(requested_at, body["exchanger"], as_of, round(time.time() * 1000) - as_of, values)


def stale_answers(answers: Sequence[RateAnswer]) -> list[RateAnswer]:
    """Return the rates that were older than fresh ones may be."""
    return [each for each in answers if each.exchanger not in ("", REFERENCE) and each.age > FRESH_MS + SLACK_MS]


def outages(answers: Sequence[RateAnswer]) -> Iterator[Outage]:
    """Yield the times without rates, each until the next response with rates."""
    since: float | None = None
    for each in answers:
        if not each.exchanger:
            since = each.at if since is None else since
        elif since is not None:
            yield Outage(since, each.at)
            since = None
    if since is not None:
        yield Outage(since, answers[-1].at)


def availability(answers: Sequence[RateAnswer]) -> float:
    """Return the share of the seconds in which no request failed."""
    seconds = {int(each.at): True for each in answers}
    seconds |= {int(each.at): False for each in answers if not each.exchanger}
    return sum(seconds.values()) / len(seconds)


def deviations(
    answers: Sequence[RateAnswer], simulator: str, assets: Mapping[str, str]
) -> Iterator[tuple[float, RateAnswer, str]]:
    """Yield the share by which each rate differed from the simulated market at the time of the rate."""
    dollars = dict[int, dict[str, Decimal]]()
    with httpx.Client(base_url=simulator, timeout=30) as client:
        for each in (each for each in answers if each.exchanger):
            second = each.as_of // 1000 * 1000
            if second not in dollars:
                text = client.get("/market", params={"at": second}).raise_for_status().text
                dollars[second] = json.loads(text, parse_float=Decimal, parse_int=Decimal)["usd"]
            for direction, value in each.values.items():
                base, quote = (dollars[second][assets.get(name, name)] for name in direction.split("-"))
                yield float(abs(value * quote / base - 1)), each, direction
