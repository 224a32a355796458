"""What a run found, as a page in Markdown."""

import platform
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from loadtest.faults.injection import InjectedFault
from loadtest.faults.kinds import KINDS
from loadtest.faults.rate_watch import MAX_DEVIATION_SHARE, Outage
from services.core.model import CandleGap, CandleGapState
from services.core.timeframes import TIMEFRAMES

AFTERMATH_SECONDS = 10  # after a fault in which what goes wrong is still counted as its doing


REPORT_TEMPLATE = """\
# Candles through faults

`make faults` plays a market whose own candles are known. Two Kurs follow it: one split over RabbitMQ, Redis,
PostgreSQL and nginx, one in a single process. All their processes and servers are killed, stopped for 20 s, restarted,
started twice, or have their wall clock set. Disks and Redis become full, the database becomes read-only or locked, the
broker raises its alarms and loses its queues, and the exchanges' connections break. The run fails if a single
candle is missing, stored twice, or different from the exchange's in the last digit, if the stored indicators and
analyses differ from what these candles give, or if a rate was wrong or too old at any time.

- {moment} UTC, {machine}, seed {found.seed}
- {faults} faults within {found.seconds:.0f} s; {found.starts} times a process was started again, \
{own} of them because it had ended by itself
- {found.candles:,} candles of {found.series} series, in both, compared {found.settled:.0f} s after the last fault: \
{found.differences} differences
- {found.rows:,} rows of indicators and analyses, of the newest candles of each series: {found.untrue} differences
- {repaired} candles of that time were in gaps that were detected and repaired
- `kurs verify`: {found.verified}
- rates were requested {found.looks:,} times; in {found.availability:.2%} of the seconds there was a rate; the longest \
time without one: {longest:.1f} s
- the largest deviation of a rate: {found.off:.3%} of the market's ({wrong:.1%} are allowed); {found.old} were too old

If something went wrong while faults overlapped, it is in the row of each of them.

| target | fault | times | longest time without a rate, s | repaired candles |
| --- | --- | ---: | ---: | ---: |
{rows}
"""


class FaultRunResult(NamedTuple):
    """What a run found. Times in seconds; `off`: the largest share by which a rate was off."""

    seed: int
    seconds: float
    settled: float
    candles: int
    series: int
    differences: int
    rows: int  # of the analyst
    untrue: int  # of them
    verified: str  # the last line of `kurs verify`
    looks: int
    availability: float
    off: float
    old: int
    starts: int
    injected: Sequence[InjectedFault]
    outages: Sequence[Outage]
    gaps: Sequence[CandleGap]


class FaultSummary(NamedTuple):
    """All faults of one kind at one target."""

    target: str
    kind: str
    times: int
    longest: float  # seconds without an answer
    repaired: int  # candles


def rows(found: FaultRunResult) -> Iterator[FaultSummary]:
    """A row per target and kind. What went wrong while several faults overlapped is in the row of each."""
    groups = defaultdict[tuple[str, str], list[InjectedFault]](list)
    for each in found.injected:
        groups[_target_title(each.fault.target), each.fault.kind].append(each)
    for (target, kind), some in sorted(groups.items()):
        longest = max((s.seconds for s in found.outages if _overlaps(some, s.since, s.until)), default=0.0)
        repaired = sum(1 for since, until in _repaired_candles(found.gaps) if _overlaps(some, since, until))
        yield FaultSummary(target, kind, len(some), longest, repaired)


def render_report(found: FaultRunResult) -> str:
    """The page."""
    lines = (f"| {row.target} | {row.kind} | {row.times} | {row.longest:.1f} | {row.repaired} |" for row in rows(found))
    return REPORT_TEMPLATE.format(
        found=found,
        moment=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        faults=len(found.injected),
        own=found.starts - sum(1 for each in found.injected if KINDS[each.fault.target][each.fault.kind].restarts),
        longest=max((spell.seconds for spell in found.outages), default=0.0),
        repaired=sum(1 for since, until in _repaired_candles(found.gaps) if _overlaps(found.injected, since, until)),
        wrong=MAX_DEVIATION_SHARE,
        rows="\n".join(lines),
    )


def _target_title(name: str) -> str:
    names = {"rabbit": "RabbitMQ", "redis": "Redis", "postgres": "PostgreSQL"}
    exchanges = {"binance": "Binance", "deribit": "Deribit", "coingecko": "CoinGecko"}
    return (names | exchanges).get(name, "API replica" if name.startswith("api") else name)


def _repaired_candles(holes: Iterable[CandleGap]) -> Iterator[tuple[float, float]]:
    """Begin and end of each candle that was missing and is repaired."""
    for hole in holes:
        frame = TIMEFRAMES[hole.series.timeframe]
        if hole.state is CandleGapState.REPAIRED:
            for opening in frame.open_times(hole.since, hole.until):
                yield opening / 1000, frame.close_time(opening) / 1000


def _overlaps(some: Iterable[InjectedFault], since: float, until: float) -> bool:
    return any(each.since <= until and since <= each.until + AFTERMATH_SECONDS for each in some)
