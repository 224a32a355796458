"""Longer candles follow shorter ones: whatever changed is rolled up, all the way to the month."""

from collections import defaultdict
from collections.abc import Iterable

from services.core.candles import rolled
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, Timeframe, parents
from services.writer.shelf import Shelf


async def keep(shelf: Shelf, candles: Iterable[Candle]) -> None:
    """Put candles on the shelf, and then all that are rolled up from those that changed."""
    given: defaultdict[Series, list[Candle]] = defaultdict(list)
    for candle in candles:
        given[candle.series].append(candle)
    touched: defaultdict[Series, set[int]] = defaultdict(set)
    for series, some in given.items():
        await shelf.need(series, [candle.bar.timestamp for candle in some])
        touched[series].update(candle.bar.timestamp for candle in some if shelf.put(candle))
    for name in TIMEFRAMES:  # the shorter come before the longer
        for series in [series for series in touched if series.timeframe == name and touched[series]]:
            for parent in parents(name):
                above = series._replace(timeframe=parent.name)
                touched[above] |= await _roll(shelf, series, above, touched[series])


async def _roll(shelf: Shelf, below: Series, above: Series, changed: set[int]) -> set[int]:
    """Roll up what changed below; answers what that changed above."""
    parent, child = TIMEFRAMES[above.timeframe], TIMEFRAMES[below.timeframe]
    openings = {parent.opening(opening) for opening in changed}
    await shelf.need(above, openings)
    await shelf.need(below, openings | {parent.closing(opening) - 1 for opening in openings})
    return {opening for opening in sorted(openings) if _put(shelf, above, parent, opening, child)}


def _put(shelf: Shelf, above: Series, parent: Timeframe, opening: int, child: Timeframe) -> bool:
    below = above._replace(timeframe=child.name)
    found = (shelf.get(below, start) for start in child.openings(opening, parent.closing(opening) - 1))
    candle = rolled(above, parent, opening, [candle for candle in found if candle], child)
    return candle is not None and shelf.put(candle)
