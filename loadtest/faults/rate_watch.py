"""Looks at the rates while faults happen: is there an answer, is it fresh, is it right?"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import httpx

from loadtest.background import BackgroundThread

POLL_SECONDS = 0.2
FRESH_MS = 5_000
SLACK_MS = 1_500  # between an answer's making, its caching by nginx and our look at it, on a busy machine
MAX_DEVIATION_SHARE = 0.005  # share by which a rate may be off: exchanges differ a little, and 5 s are allowed to it
REFERENCE = "coingecko"  # gives what is minutes old, and says so


class RateAnswer(NamedTuple):
    """One answer, or none. Times in seconds, by the clock."""

    at: float
    exchanger: str = ""  # empty: no answer
    as_of: int = 0  # ms
    age: int = 0  # ms, of the oldest of the exchanger's own values
    values: Mapping[str, Decimal] = {}


class Outage(NamedTuple):
    """A time without an answer, in seconds by the clock."""

    since: float
    until: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.until - self.since


class RateWatch(BackgroundThread):
    """Requests rates five times a second from its start to its end, which a `with` block marks."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = f"{url}/v1/courses"
        self.answers: list[RateAnswer] = []

    def run(self) -> None:
        """Look until the end."""
        with httpx.Client(timeout=2) as client:
            while not self.stop_requested.wait(POLL_SECONDS):
                self.answers.append(self._poll(client))

    def _poll(self, client: httpx.Client) -> RateAnswer:
        asked = time.time()
        try:
            answer = client.get(self._url).raise_for_status()
        except httpx.HTTPError:
            return RateAnswer(asked)
        body = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)
        as_of, values = int(answer.headers["kurs-as-of"]), {row["direction"]: row["value"] for row in body["courses"]}
        return RateAnswer(asked, body["exchanger"], as_of, round(time.time() * 1000) - as_of, values)


def stale_answers(looks: Sequence[RateAnswer]) -> list[RateAnswer]:
    """Answers that were older than what is fresh."""
    return [look for look in looks if look.exchanger not in ("", REFERENCE) and look.age > FRESH_MS + SLACK_MS]


def outages(looks: Sequence[RateAnswer]) -> Iterator[Outage]:
    """The times without an answer, each until the first answer after it."""
    since: float | None = None
    for look in looks:
        if not look.exchanger:
            since = look.at if since is None else since
        elif since is not None:
            yield Outage(since, look.at)
            since = None
    if since is not None:
        yield Outage(since, looks[-1].at)


def availability(looks: Sequence[RateAnswer]) -> float:
    """The share of the seconds in which every look was answered."""
    seconds = {int(look.at): True for look in looks}
    seconds |= {int(look.at): False for look in looks if not look.exchanger}
    return sum(seconds.values()) / len(seconds)


def max_deviation(
    looks: Sequence[RateAnswer], simulator: str, assets: Mapping[str, str]
) -> Iterator[tuple[float, RateAnswer, str]]:
    """By which share each rate was off the market behind all exchanges, at the time that it claims to be of."""
    dollars = dict[int, dict[str, Decimal]]()
    with httpx.Client(base_url=simulator, timeout=30) as client:
        for look in (look for look in looks if look.exchanger):
            second = look.as_of // 1000 * 1000
            if second not in dollars:
                told = client.get("/market", params={"at": second}).raise_for_status().text
                dollars[second] = json.loads(told, parse_float=Decimal, parse_int=Decimal)["usd"]
            for direction, value in look.values.items():
                base, quote = (dollars[second][assets.get(name, name)] for name in direction.split("-"))
                yield float(abs(value * quote / base - 1)), look, direction
