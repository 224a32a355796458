"""Looks at the rates while faults happen: is there an answer, is it fresh, is it right?"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Self

import httpx

LOOK = 0.2  # seconds
FRESH_MS = 5_000
SLACK_MS = 1_500  # between an answer's making, its caching by nginx and our look at it, on a busy machine
WRONG = 0.005  # share by which a rate may be off: exchanges differ a little, and 5 s are allowed to it
REFERENCE = "coingecko"  # gives what is minutes old, and says so


class Look(NamedTuple):
    """One answer, or none. Times in seconds, by the clock."""

    at: float
    exchanger: str = ""  # empty: no answer
    as_of: int = 0  # ms
    age: int = 0  # ms, of the oldest of the exchanger's own values
    values: Mapping[str, Decimal] = {}


class Spell(NamedTuple):
    """A time without an answer, in seconds by the clock."""

    since: float
    until: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.until - self.since


class Watch(threading.Thread):
    """Asks five times a second from its start to its end, which a `with` block marks."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._over = f"{url}/v1/courses", threading.Event()
        self.looks: list[Look] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until the end."""
        with httpx.Client(timeout=2) as client:
            while not self._over.wait(LOOK):
                self.looks.append(self._look(client))

    def _look(self, client: httpx.Client) -> Look:
        asked = time.time()
        try:
            answer = client.get(self._url).raise_for_status()
        except httpx.HTTPError:
            return Look(asked)
        body = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)
        as_of, values = int(answer.headers["kurs-as-of"]), {row["direction"]: row["value"] for row in body["courses"]}
        return Look(asked, body["exchanger"], as_of, round(time.time() * 1000) - as_of, values)


def old(looks: Sequence[Look]) -> list[Look]:
    """Answers that were older than what is fresh."""
    return [look for look in looks if look.exchanger not in ("", REFERENCE) and look.age > FRESH_MS + SLACK_MS]


def spells(looks: Sequence[Look]) -> Iterator[Spell]:
    """The times without an answer, each until the first answer after it."""
    since: float | None = None
    for look in looks:
        if not look.exchanger:
            since = look.at if since is None else since
        elif since is not None:
            yield Spell(since, look.at)
            since = None
    if since is not None:
        yield Spell(since, looks[-1].at)


def availability(looks: Sequence[Look]) -> float:
    """The share of the seconds in which every look was answered."""
    seconds = {int(look.at): True for look in looks}
    seconds |= {int(look.at): False for look in looks if not look.exchanger}
    return sum(seconds.values()) / len(seconds)


def off(looks: Sequence[Look], simulator: str, assets: Mapping[str, str]) -> Iterator[tuple[float, Look, str]]:
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
