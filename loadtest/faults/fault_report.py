"""The report of a fault run, as a page in Markdown."""

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

AFTERMATH_SECONDS = 10  # after a fault, in which an outage still counts as caused by it


REPORT_TEMPLATE = """\
# Candles through faults

`make faults` plays a market whose own candles are known. Two Kurs follow it: one split over RabbitMQ, Redis,
PostgreSQL and nginx, one in a single process. All their processes and servers are killed, stopped for 20 s, restarted,
started twice, or have their wall clock set. Disks and Redis become full, the database becomes read-only or locked, the
broker raises its alarms and loses its queues, and the exchanges' connections break. The run fails if a single
candle is missing, stored twice, or different from the exchange's in the last digit, if the stored indicators and
analyses differ from what these candles give, or if a rate was wrong or too old at any time.

- {moment} UTC, {machine}, seed {result.seed}
- {faults} faults within {result.seconds:.0f} s; {result.starts} times a process was started again, \
{own} of them because it had ended by itself
- {result.candles:,} candles of {result.series} series, in both, compared {result.settle_seconds:.0f} s after the last \
fault: {result.differences} differences
- {result.rows:,} rows of indicators and analyses, of the newest candles of each series: \
{result.row_differences} differences
- {repaired} candles of that time were in gaps that were detected and repaired
- `kurs verify`: {result.verified}
- rates were requested {result.requests:,} times; in {result.availability:.2%} of the seconds there was a rate; \
the longest time without one: {longest:.1f} s
- the largest deviation of a rate: {result.deviation:.3%} of the market's ({max_deviation:.1%} are allowed); \
{result.stale} were too old

If something went wrong while faults overlapped, it is in the row of each of them.

| target | fault | times | longest time without a rate, s | repaired candles |
| --- | --- | ---: | ---: | ---: |
{rows}
"""


class FaultRunResult(NamedTuple):
    """The result of a fault run. `deviation`: the largest share by which a rate differed from the market's."""

    seed: int
    seconds: float
    settle_seconds: float
    candles: int
    series: int
    differences: int
    rows: int  # of the analyst that were compared
    row_differences: int
    verified: str  # the last line of `kurs verify`
    requests: int
    availability: float
    deviation: float
    stale: int
    starts: int
    injected: Sequence[InjectedFault]
    outages: Sequence[Outage]
    gaps: Sequence[CandleGap]


class FaultSummary(NamedTuple):
    """All faults of one kind of one target."""

    target: str
    kind: str
    times: int
    longest: float  # seconds without a rate
    repaired: int  # candles


def rows(result: FaultRunResult) -> Iterator[FaultSummary]:
    """Yield a row per target and kind. An outage while several faults overlapped is in the row of each."""
    groups = defaultdict[tuple[str, str], list[InjectedFault]](list)
    for each in result.injected:
        groups[_target_title(each.fault.target), each.fault.kind].append(each)
    for (target, kind), some in sorted(groups.items()):
        longest = max((s.seconds for s in result.outages if _overlaps(some, s.since, s.until)), default=0.0)
        repaired = sum(1 for since, until in _repaired_candles(result.gaps) if _overlaps(some, since, until))
        yield FaultSummary(target, kind, len(some), longest, repaired)


def render_report(result: FaultRunResult) -> str:
    """Render the page."""
    lines = (
        f"| {row.target} | {row.kind} | {row.times} | {row.longest:.1f} | {row.repaired} |" for row in rows(result)
    )
    return REPORT_TEMPLATE.format(
        result=result,
        moment=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        faults=len(result.injected),
        own=result.starts - sum(1 for each in result.injected if KINDS[each.fault.target][each.fault.kind].restarts),
        longest=max((outage.seconds for outage in result.outages), default=0.0),
        repaired=sum(1 for since, until in _repaired_candles(result.gaps) if _overlaps(result.injected, since, until)),
        max_deviation=MAX_DEVIATION_SHARE,
        rows="\n".join(lines),
    )


def _target_title(name: str) -> str:
    names = {"rabbit": "RabbitMQ", "redis": "Redis", "postgres": "PostgreSQL"}
    exchanges = {"binance": "Binance", "deribit": "Deribit", "coingecko": "CoinGecko"}
    return (names | exchanges).get(name, "API replica" if name.startswith("api") else name)


def _repaired_candles(gaps: Iterable[CandleGap]) -> Iterator[tuple[float, float]]:
    """Yield the begin and end of each candle that was missing and is repaired, in seconds."""
    for gap in gaps:
        frame = TIMEFRAMES[gap.series.timeframe]
        if gap.state is CandleGapState.REPAIRED:
            for opening in frame.open_times(gap.since, gap.until):
                yield opening / 1000, frame.close_time(opening) / 1000


def _overlaps(some: Iterable[InjectedFault], since: float, until: float) -> bool:
    return any(each.since <= until and since <= each.until + AFTERMATH_SECONDS for each in some)
