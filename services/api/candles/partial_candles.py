"""Partial candles: those of which some parts are missing, made from the rest."""

from collections import defaultdict
from collections.abc import Sequence

from services.core import ranges
from services.core.candles import merge_bars
from services.core.errors import BadRange
from services.core.model import Bar, Candle, CandleSource, Series
from services.core.ranges import TimeRange
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Store

MAX_CANDLES_READ = 20_000  # for one response
MAX_GAPS_READ = 100  # for one response


class PartialCandle(Candle, frozen=True, gc=False):
    """A candle of which a part is missing."""

    @property
    def kind(self) -> str:
        """What sets it apart from complete ones."""
        return "partial"


async def build_partials(store: Store, series: Series, missing: Sequence[TimeRange]) -> list[PartialCandle]:
    """Merge for each missing open time the shorter candles that are stored, the longest ones without overlap.

    Raises BadRange where too much would be read, Unavailable.
    """
    timeframe, parts = TIMEFRAMES[series.timeframe], defaultdict[int, list[Bar]](list)
    holes, frame, left = list(missing), timeframe, MAX_CANDLES_READ
    while holes and frame.child:
        if len(holes) > MAX_GAPS_READ:
            raise _too_much(series)
        child, spans = TIMEFRAMES[frame.child], [(since, frame.close_time(until) - 1) for since, until in holes]
        holes = []
        for since, until in spans:
            rows = await store.candles(series._replace(timeframe=child.name), since, until, left + 1)
            bars = [row.bar for row in rows if row.closed]
            left -= len(rows)
            if left < 0:
                raise _too_much(series)
            for bar in bars:
                parts[timeframe.open_time(bar.open_time)].append(bar)
            holes += _missing_between(child, bars, since, until)
        frame = child
    return [
        PartialCandle(
            series, merge_bars(opening, sorted(bars, key=lambda bar: bar.open_time)), True, CandleSource.ROLLUP
        )
        for opening, bars in sorted(parts.items())
    ]


def _missing_between(timeframe: Timeframe, bars: Sequence[Bar], since: int, until: int) -> list[TimeRange]:
    """Return the ranges of [since, until] without these bars."""
    first = next(timeframe.open_times(since, until), None)
    if first is None:
        return []
    return ranges.subtract(
        timeframe, [(first, timeframe.open_time(until))], ranges.from_open_times(timeframe, (b.open_time for b in bars))
    )


def _too_much(series: Series) -> BadRange:
    return BadRange(
        f"too much of {series.instrument} {series.timeframe} is missing to be merged from shorter candles: "
        "request a shorter range, or without partial"
    )
