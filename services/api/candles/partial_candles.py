"""What is known of candles that cannot be whole: some of what they are made of is missing."""

from collections import defaultdict
from collections.abc import Sequence

from services.core import ranges
from services.core.candles import merged
from services.core.errors import BadRange
from services.core.model import Bar, Candle, Origin, Series
from services.core.ranges import Run
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Store

MOST_PARTS = 20_000  # candles that are read for one answer
MOST_HOLES = 100  # that are looked into for it


class Partial(Candle, frozen=True, gc=False):
    """What is known of a candle that is not whole."""

    @property
    def kind(self) -> str:
        """Told from whole ones."""
        return "partial"


async def partials(store: Store, series: Series, missing: Sequence[Run]) -> list[Partial]:
    """For each of these openings the shorter candles that are kept, as one; the longest of them, without overlap.

    Raises BadRange where too much would be read, Unavailable.
    """
    timeframe, parts = TIMEFRAMES[series.timeframe], defaultdict[int, list[Bar]](list)
    holes, frame, left = list(missing), timeframe, MOST_PARTS
    while holes and frame.child:
        if len(holes) > MOST_HOLES:
            raise _too_much(series)
        child, spans = TIMEFRAMES[frame.child], [(since, frame.closing(until) - 1) for since, until in holes]
        holes = []
        for since, until in spans:
            rows = await store.candles(series._replace(timeframe=child.name), since, until, left + 1)
            bars = [row.bar for row in rows if row.closed]
            left -= len(rows)
            if left < 0:
                raise _too_much(series)
            for bar in bars:
                parts[timeframe.opening(bar.timestamp)].append(bar)
            holes += _between(child, bars, since, until)
        frame = child
    return [
        Partial(series, merged(opening, sorted(bars, key=lambda bar: bar.timestamp)), True, Origin.ROLLUP)
        for opening, bars in sorted(parts.items())
    ]


def _between(timeframe: Timeframe, bars: Sequence[Bar], since: int, until: int) -> list[Run]:
    """What of [since, until] these bars leave."""
    first = next(timeframe.openings(since, until), None)
    if first is None:
        return []
    return ranges.without(
        timeframe, [(first, timeframe.opening(until))], ranges.of(timeframe, (b.timestamp for b in bars))
    )


def _too_much(series: Series) -> BadRange:
    return BadRange(
        f"too much of {series.instrument} {series.timeframe} is missing to be put together of what is kept at once: "
        "ask for a shorter range, or without partial"
    )
