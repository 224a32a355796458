"""Requests rates during a load test, to check that they change and how old they are."""

import itertools
import time
from collections.abc import Sequence

import httpx

from loadtest.background import BackgroundThread
from loadtest.results import MAX_RATE_AGE_MS, RateProbeSample, Target

PROBE_SECONDS = 0.2
MAX_UNCHANGED_SECONDS = 3


class RateProbe(BackgroundThread):
    """A thread that requests rates five times a second. A `with` block starts and stops it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.samples: list[RateProbeSample] = []
        self.failed = 0

    def run(self) -> None:
        """Request rates until the thread is stopped."""
        began = time.monotonic()
        with httpx.Client(timeout=5) as client:
            while not self.stop_requested.wait(PROBE_SECONDS):
                try:
                    response = client.get(self._url).raise_for_status()
                except httpx.HTTPError:
                    self.failed += 1
                    continue
                age = time.time_ns() // 1_000_000 - int(response.headers["kurs-as-of"])
                self.samples.append(RateProbeSample(round(time.monotonic() - began, 1), age, response.headers["etag"]))

    def targets(self) -> list[Target]:
        """Return the targets: rates changed all the time, and none was too old."""
        return [
            Target("requests for rates", len(self.samples), at_least=10),
            Target("requests for rates that failed", self.failed, at_most=0),
            Target("longest time without new rates, s", longest_unchanged(self.samples), at_most=MAX_UNCHANGED_SECONDS),
            Target(
                "oldest rate seen, ms",
                max((sample.age_ms for sample in self.samples), default=0),
                at_most=MAX_RATE_AGE_MS,
            ),
        ]


def longest_unchanged(samples: Sequence[RateProbeSample]) -> float:
    """Return the longest time in seconds for which the ETag was the same."""
    longest, since = 0.0, samples[0].at if samples else 0.0
    for before, sample in itertools.pairwise(samples):
        if sample.etag != before.etag:
            since = sample.at
        longest = max(longest, sample.at - since)
    return round(longest, 1)
