"""The report of a hostile run, as a page in Markdown."""

import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from loadtest.hostile.honest_client import REQUEST_PAUSES, ClientRequest, HonestClient

MAX_P99_MS = 250
MAX_GROWTH_MB = 30  # of one service
MAX_GROWTH_SHARE = 0.15
MAX_SHOWN = 5

REPORT_TEMPLATE = """\
# Kurs beside hostile clients

`make hostile` runs all of Kurs, split over RabbitMQ, Redis, PostgreSQL and nginx, for {seconds:.0f} s. Hostile
clients send expensive and malformed requests, through nginx and directly to the replicas. A client with access to the
broker publishes impossible messages. Exchanges fail, and the wall clocks of the pricer, the writer, a replica and a
collector are set, one after the other. Meanwhile an honest client sends requests and follows live streams.

- {moment} UTC, {machine}, seed {result.seed}
- {result.attacks} attacks by clients, {result.faults} faults of exchanges and clocks
- the honest client sent {request_count:,} requests; {stale} times the response was that no rate is fresh; {refused}
  times it was refused for another reason
- candles that differ from the exchange's: {differences}
- services that ended: {ended}

| request | times | p50, ms | p99, ms | longest, ms |
| --- | ---: | ---: | ---: | ---: |
{request_rows}

| stream | messages | longest silence, s |
| --- | ---: | ---: |
{streams}

| service | memory, MB | at the end |
| --- | ---: | ---: |
{memory}
{failures}"""


class MemoryGrowth(NamedTuple):
    """The memory of a service in the second and in the last quarter of the time, in megabytes."""

    service: str
    before: float
    after: float

    @property
    def flat(self) -> bool:
        """Whether the growth is within the bounds."""
        return self.after - self.before <= max(MAX_GROWTH_MB, MAX_GROWTH_SHARE * self.before)


class HostileRunResult(NamedTuple):
    """The result of a hostile run."""

    seed: int
    seconds: float
    attacks: int
    faults: int
    honest: HonestClient
    growth: Sequence[MemoryGrowth]
    ended: Sequence[str]
    differences: Sequence[str]

    @property
    def slow(self) -> list[str]:
        """The paths whose requests took too long."""
        requests = self.honest.requests
        return [
            f"p99 of {path} is {p99:.0f} ms"
            for path in REQUEST_PAUSES
            if (p99 := quantile(requests, path, 0.99)) > MAX_P99_MS
        ]

    @property
    def failures(self) -> list[str]:
        """The failures that no load of the machine explains."""
        problems = Counter(each.problem for each in self.honest.requests if each.problem and not each.stale)
        grown = [
            f"{each.service} grew from {each.before:.0f} to {each.after:.0f} MB"
            for each in self.growth
            if not each.flat
        ]
        refused = [f"refused {times} times: {problem}" for problem, times in problems.most_common(MAX_SHOWN)]
        return [*refused, *grown, *(f"{name} ended" for name in self.ended), *self.differences[:MAX_SHOWN]]


def quantile(requests: Sequence[ClientRequest], path: str, share: float) -> float:
    """Return a quantile of the response times of a path in milliseconds, without failed requests."""
    times = sorted(each.seconds * 1000 for each in requests if each.path == path and not each.problem)
    return times[min(len(times) - 1, int(share * len(times)))] if times else float("inf")


def render_report(result: HostileRunResult) -> str:
    """Render the page."""
    requests, failures = result.honest.requests, [*result.failures, *result.slow]
    return REPORT_TEMPLATE.format(
        result=result,
        seconds=result.seconds,
        moment=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        request_count=len(requests),
        stale=sum(request.stale for request in requests),
        refused=sum(bool(request.problem) and not request.stale for request in requests),
        differences=len(result.differences),
        ended=", ".join(result.ended) or "none",
        request_rows="\n".join(_request_rows(requests)),
        streams="\n".join(
            f"| {name} | {len(times):,} | {result.honest.longest_silence(name):.1f} |"
            for name, times in sorted(result.honest.received_at.items())
        ),
        memory="\n".join(f"| {each.service} | {each.before:.0f} | {each.after:.0f} |" for each in result.growth),
        failures="".join(f"\n- FAILED: {failure}" for failure in failures),
    )


def _request_rows(requests: Sequence[ClientRequest]) -> Iterator[str]:
    for path in REQUEST_PAUSES:
        times = sum(each.path == path for each in requests)
        p50, p99, most = (quantile(requests, path, share) for share in (0.5, 0.99, 1))
        yield f"| `{path}` | {times:,} | {p50:.0f} | {p99:.0f} | {most:.0f} |"
