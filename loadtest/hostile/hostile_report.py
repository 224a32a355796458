"""What a hostile run found, as a page in Markdown."""

import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from loadtest.hostile.honest_client import REQUEST_PAUSES, ClientRequest, HonestClient

MAX_P99_MS = 250
MAX_GROWTH_MB = 30  # of one service: more is no noise
MAX_GROWTH_SHARE = 0.15
MAX_SHOWN = 5

REPORT_TEMPLATE = """\
# Kurs beside hostile clients

`make hostile` runs all of Kurs, split over RabbitMQ, Redis, PostgreSQL and nginx, for {seconds:.0f} s. Hostile
clients send expensive and malformed requests, through nginx and directly to the replicas. A client with access to the
broker publishes impossible messages. Exchanges fail, and the wall clocks of the pricer, the writer, a replica and a
collector are set, one after the other. Meanwhile an honest client sends requests and follows live streams.

- {moment} UTC, {machine}, seed {found.seed}
- {found.attacks} attacks by clients, {found.steps} faults of exchanges and clocks
- the honest client sent {requests:,} requests; {stale} times the response was that no rate is fresh; {refused} times it
  was refused for another reason
- candles that differ from the exchange's: {wrong}
- services that ended: {ended}

| request | times | p50, ms | p99, ms | longest, ms |
| --- | ---: | ---: | ---: | ---: |
{looks}

| stream | messages | longest silence, s |
| --- | ---: | ---: |
{streams}

| service | memory, MB | at the end |
| --- | ---: | ---: |
{memory}
{failures}"""


class MemoryGrowth(NamedTuple):
    """What a service held in the second quarter of the time and in the last, in megabytes."""

    service: str
    before: float
    after: float

    @property
    def flat(self) -> bool:
        """Whether it does not grow."""
        return self.after - self.before <= max(MAX_GROWTH_MB, MAX_GROWTH_SHARE * self.before)


class HostileRunResult(NamedTuple):
    """What a run found."""

    seed: int
    seconds: float
    attacks: int
    steps: int
    honest: HonestClient
    growth: Sequence[MemoryGrowth]
    ended: Sequence[str]
    wrong: Sequence[str]

    @property
    def slow(self) -> list[str]:
        """Questions that had to wait."""
        looks = self.honest.requests
        return [
            f"p99 of {path} is {p99:.0f} ms"
            for path in REQUEST_PAUSES
            if (p99 := quantile(looks, path, 0.99)) > MAX_P99_MS
        ]

    @property
    def failures(self) -> list[str]:
        """What is not as it ought to be, whatever the machine does beside it."""
        untold = Counter(look.problem for look in self.honest.requests if look.problem and not look.stale)
        grown = [
            f"{each.service} grew from {each.before:.0f} to {each.after:.0f} MB"
            for each in self.growth
            if not each.flat
        ]
        refused = [f"refused {times} times: {problem}" for problem, times in untold.most_common(MAX_SHOWN)]
        return [*refused, *grown, *(f"{name} ended" for name in self.ended), *self.wrong[:MAX_SHOWN]]


def quantile(looks: Sequence[ClientRequest], path: str, share: float) -> float:
    """A quantile of the milliseconds that good answers took."""
    times = sorted(look.seconds * 1000 for look in looks if look.path == path and not look.problem)
    return times[min(len(times) - 1, int(share * len(times)))] if times else float("inf")


def render_report(found: HostileRunResult) -> str:
    """The page."""
    looks, failures = found.honest.requests, [*found.failures, *found.slow]
    return REPORT_TEMPLATE.format(
        found=found,
        seconds=found.seconds,
        moment=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        requests=len(looks),
        stale=sum(look.stale for look in looks),
        refused=sum(bool(look.problem) and not look.stale for look in looks),
        wrong=len(found.wrong),
        ended=", ".join(found.ended) or "none",
        looks="\n".join(_request_rows(looks)),
        streams="\n".join(
            f"| {name} | {len(moments):,} | {found.honest.longest_silence(name):.1f} |"
            for name, moments in sorted(found.honest.received_at.items())
        ),
        memory="\n".join(f"| {each.service} | {each.before:.0f} | {each.after:.0f} |" for each in found.growth),
        failures="".join(f"\n- FAILED: {failure}" for failure in failures),
    )


def _request_rows(looks: Sequence[ClientRequest]) -> Iterator[str]:
    for path in REQUEST_PAUSES:
        times = sum(look.path == path for look in looks)
        p50, p99, most = (quantile(looks, path, share) for share in (0.5, 0.99, 1))
        yield f"| `{path}` | {times:,} | {p50:.0f} | {p99:.0f} | {most:.0f} |"
