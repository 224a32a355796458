"""The histogram of request durations, cheap enough for each request."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

BUCKET_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class RequestHistogram(Collector):
    """Request durations in seconds by method, route and status: plain integers until metrics are requested."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str, int], list[int]] = defaultdict(
            lambda: [0] * (len(BUCKET_SECONDS) + 1)
        )
        self._sums: defaultdict[tuple[str, str, int], float] = defaultdict(float)

    def observe(self, labels: tuple[str, str, int], seconds: float) -> None:
        """Count one request under (method, route, status)."""
        self._counts[labels][bisect_left(BUCKET_SECONDS, seconds)] += 1
        self._sums[labels] += seconds

    def collect(self) -> Iterator[Metric]:
        """Return the histogram, cumulative as Prometheus has it."""
        family = HistogramMetricFamily(
            "kurs_http_request_seconds", "Duration of a request", labels=("method", "route", "status")
        )
        for (method, route, status), counts in self._counts.items():
            total, buckets = 0, []
            for bound, count in zip((*map(str, BUCKET_SECONDS), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric((method, route, str(status)), buckets, self._sums[method, route, status])
        yield family
