"""What a hostile run found, as a page in Markdown."""

import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from loadtest.hostile.honest_client import ASKED, Honest, Look

P99_MS = 250
GROWTH_MB = 30  # of one service: more is no noise
GROWTH_SHARE = 0.15
SHOWN = 5

PAGE = """\
# Kurs among the hostile

`make hostile` runs the whole of Kurs, split over RabbitMQ, Redis, PostgreSQL and nginx, for {seconds:.0f} s. Hostile
clients send what costs much or is no request at all, through nginx and straight to the replicas. Whoever reached the
broker publishes messages that cannot be. Exchanges fail, and the wall clocks of the pricer, the writer, a replica and a
collector are set, one after the other. An honest client asks and follows all the while.

- {moment} UTC, {machine}, seed {found.seed}
- {found.attacks} attacks by clients, {found.steps} faults of exchanges and clocks
- the honest client asked {asked:,} times; {told} times it was told that there is no fresh rate; {untold} times it was
  refused in another way
- candles that are not the exchange's own: {wrong}
- services that ended: {ended}

| asked | times | p50, ms | p99, ms | longest, ms |
| --- | ---: | ---: | ---: | ---: |
{looks}

| stream | messages | longest silence, s |
| --- | ---: | ---: |
{streams}

| service | memory, MB | at the end |
| --- | ---: | ---: |
{memory}
{failures}"""


class Growth(NamedTuple):
    """What a service held in the second quarter of the time and in the last, in megabytes."""

    service: str
    before: float
    after: float

    @property
    def flat(self) -> bool:
        """Whether it does not grow."""
        return self.after - self.before <= max(GROWTH_MB, GROWTH_SHARE * self.before)


class Found(NamedTuple):
    """What a run found."""

    seed: int
    seconds: float
    attacks: int
    steps: int
    honest: Honest
    growth: Sequence[Growth]
    ended: Sequence[str]
    wrong: Sequence[str]

    @property
    def slow(self) -> list[str]:
        """Questions that had to wait."""
        looks = self.honest.looks
        return [f"p99 of {path} is {p99:.0f} ms" for path in ASKED if (p99 := quantile(looks, path, 0.99)) > P99_MS]

    @property
    def failures(self) -> list[str]:
        """What is not as it ought to be, whatever the machine does beside it."""
        untold = Counter(look.problem for look in self.honest.looks if look.problem and not look.told)
        grown = [
            f"{each.service} grew from {each.before:.0f} to {each.after:.0f} MB"
            for each in self.growth
            if not each.flat
        ]
        refused = [f"refused {times} times: {problem}" for problem, times in untold.most_common(SHOWN)]
        return [*refused, *grown, *(f"{name} ended" for name in self.ended), *self.wrong[:SHOWN]]


def quantile(looks: Sequence[Look], path: str, share: float) -> float:
    """A quantile of the milliseconds that good answers took."""
    times = sorted(look.seconds * 1000 for look in looks if look.path == path and not look.problem)
    return times[min(len(times) - 1, int(share * len(times)))] if times else float("inf")


def page(found: Found) -> str:
    """The page."""
    looks, failures = found.honest.looks, [*found.failures, *found.slow]
    return PAGE.format(
        found=found,
        seconds=found.seconds,
        moment=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        asked=len(looks),
        told=sum(look.told for look in looks),
        untold=sum(bool(look.problem) and not look.told for look in looks),
        wrong=len(found.wrong),
        ended=", ".join(found.ended) or "none",
        looks="\n".join(_looks(looks)),
        streams="\n".join(
            f"| {name} | {len(moments):,} | {found.honest.silence(name):.1f} |"
            for name, moments in sorted(found.honest.heard.items())
        ),
        memory="\n".join(f"| {each.service} | {each.before:.0f} | {each.after:.0f} |" for each in found.growth),
        failures="".join(f"\n- FAILED: {failure}" for failure in failures),
    )


def _looks(looks: Sequence[Look]) -> Iterator[str]:
    for path in ASKED:
        times = sum(look.path == path for look in looks)
        p50, p99, most = (quantile(looks, path, share) for share in (0.5, 0.99, 1))
        yield f"| `{path}` | {times:,} | {p50:.0f} | {p99:.0f} | {most:.0f} |"
