"""Longer candles follow shorter ones: whatever changed is rolled up, all the way to the month."""

from collections import defaultdict
from collections.abc import Iterable

from services.core.candles import rolled
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, parents
from services.writer.candle_cache import Shelf

LATE = 120_000  # ms after a bar's close in which the first shorter candle of the next one may still be on its way


async def keep(shelf: Shelf, candles: Iterable[Candle], now: int) -> None:
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
                touched[above] |= await _roll(shelf, series, above, touched[series], now)


async def _roll(shelf: Shelf, below: Series, above: Series, changed: set[int], now: int) -> set[int]:
    """Roll up what changed below; answers what that changed above."""
    parent = TIMEFRAMES[above.timeframe]
    openings = {parent.opening(opening) for opening in changed}
    await shelf.need(above, openings)
    await shelf.need(below, openings | {parent.closing(opening) - 1 for opening in openings})
    return {o for o in sorted(openings) if (c := _rolled(shelf, above, o, now)) is not None and shelf.put(c)}


def _rolled(shelf: Shelf, above: Series, opening: int, now: int) -> Candle | None:
    """The candle over its children; None where it would have a part of its values."""
    parent = TIMEFRAMES[above.timeframe]
    child = TIMEFRAMES[parent.child or ""]
    below = above._replace(timeframe=child.name)
    found = (shelf.get(below, start) for start in child.openings(opening, parent.closing(opening) - 1))
    children = [candle for candle in found if candle]
    candle = rolled(above, parent, opening, children, child)
    if candle is None or candle.closed or not children[-1].closed:
        return candle
    end = child.closing(children[-1].bar.timestamp)
    return None if end + LATE < now or _goes_on(shelf, below, end) else candle


def _goes_on(shelf: Shelf, series: Series, end: int) -> bool:
    """Whether shorter candles are known from then on: the one that holds them is missing."""
    name: str | None = series.timeframe
    while name:
        if shelf.latest.get(series._replace(timeframe=name), -1) >= end:
            return True
        name = TIMEFRAMES[name].child
    return False
