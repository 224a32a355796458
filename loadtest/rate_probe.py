"""Looks at the rates while others load the system: do they change, and how old are they?"""

import itertools
import time
from collections.abc import Sequence

import httpx

from loadtest.background import BackgroundThread
from loadtest.results import MAX_RATE_AGE_MS, RateProbeSample, Target

PROBE_SECONDS = 0.2
MAX_UNCHANGED_SECONDS = 3


class RateProbe(BackgroundThread):
    """Requests rates now and then from its start to its end, which a `with` block marks."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.samples: list[RateProbeSample] = []
        self.failed = 0

    def run(self) -> None:
        """Look until the end."""
        began = time.monotonic()
        with httpx.Client(timeout=5) as client:
            while not self.stop_requested.wait(PROBE_SECONDS):
                try:
                    answer = client.get(self._url).raise_for_status()
                except httpx.HTTPError:
                    self.failed += 1
                    continue
                age = time.time_ns() // 1_000_000 - int(answer.headers["kurs-as-of"])
                self.samples.append(RateProbeSample(round(time.monotonic() - began, 1), age, answer.headers["etag"]))

    def targets(self) -> list[Target]:
        """Rates changed all the while, and none was too old."""
        return [
            Target("looks at the rates", len(self.samples), least=10),
            Target("looks at the rates that failed", self.failed, most=0),
            Target("longest spell without new rates, s", longest_unchanged(self.samples), most=MAX_UNCHANGED_SECONDS),
            Target(
                "oldest rate seen, ms", max((sample.age_ms for sample in self.samples), default=0), most=MAX_RATE_AGE_MS
            ),
        ]


def longest_unchanged(samples: Sequence[RateProbeSample]) -> float:
    """The longest time in seconds for which the answer's tag was the same."""
    longest, since = 0.0, samples[0].at if samples else 0.0
    for before, sample in itertools.pairwise(samples):
        if sample.tag != before.tag:
            since = sample.at
        longest = max(longest, sample.at - since)
    return round(longest, 1)
