"""Looks at the rates while others load the system: do they change, and how old are they?"""

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Self

import httpx

from loadtest.results import OLDEST_MS, Moment, Target

SECONDS = 0.2
QUIET_SECONDS = 3


class Watch(threading.Thread):
    """Asks now and then from its start to its end, which a `with` block marks."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._over = url, threading.Event()
        self.moments: list[Moment] = []
        self.failed = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until the end."""
        began = time.monotonic()
        with httpx.Client(timeout=5) as client:
            while not self._over.wait(SECONDS):
                try:
                    answer = client.get(self._url).raise_for_status()
                except httpx.HTTPError:
                    self.failed += 1
                    continue
                age = time.time_ns() // 1_000_000 - int(answer.headers["kurs-as-of"])
                self.moments.append(Moment(round(time.monotonic() - began, 1), age, answer.headers["etag"]))

    def targets(self) -> list[Target]:
        """Rates changed all the while, and none was too old."""
        return [
            Target("looks at the rates", len(self.moments), least=10),
            Target("looks at the rates that failed", self.failed, most=0),
            Target("longest spell without new rates, s", spell(self.moments), most=QUIET_SECONDS),
            Target("oldest rate seen, ms", max((moment.age_ms for moment in self.moments), default=0), most=OLDEST_MS),
        ]


def spell(moments: Sequence[Moment]) -> float:
    """The longest time in seconds for which the answer's tag was the same."""
    longest, since = 0.0, moments[0].at if moments else 0.0
    for before, moment in itertools.pairwise(moments):
        if moment.tag != before.tag:
            since = moment.at
        longest = max(longest, moment.at - since)
    return round(longest, 1)
