"""Longer candles follow shorter ones: whatever changed is rolled up, all the way to the month."""

from collections import defaultdict
from collections.abc import Iterable

from services.core.candles import roll_up
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, parents
from services.writer.candle_cache import CandleCache

NEXT_CHILD_GRACE_MS = (
    120_000  # ms after a bar's close in which the first shorter candle of the next one may still be on its way
)


async def apply_and_roll_up(cache: CandleCache, candles: Iterable[Candle], now: int) -> None:
    """Put candles on the shelf, and then all that are rolled up from those that changed."""
    given: defaultdict[Series, list[Candle]] = defaultdict(list)
    for candle in candles:
        given[candle.series].append(candle)
    touched: defaultdict[Series, set[int]] = defaultdict(set)
    for series, some in given.items():
        await cache.load(series, [candle.bar.open_time for candle in some])
        touched[series].update(candle.bar.open_time for candle in some if cache.apply(candle))
    for name in TIMEFRAMES:  # the shorter come before the longer
        for series in [series for series in touched if series.timeframe == name and touched[series]]:
            for parent in parents(name):
                above = series._replace(timeframe=parent.name)
                touched[above] |= await _roll_up_series(cache, series, above, touched[series], now)


async def _roll_up_series(cache: CandleCache, below: Series, above: Series, changed: set[int], now: int) -> set[int]:
    """Roll up what changed below; answers what that changed above."""
    parent = TIMEFRAMES[above.timeframe]
    openings = {parent.open_time(opening) for opening in changed}
    await cache.load(above, openings)
    await cache.load(below, openings | {parent.close_time(opening) - 1 for opening in openings})
    return {o for o in sorted(openings) if (c := _roll_up_candle(cache, above, o, now)) is not None and cache.apply(c)}


def _roll_up_candle(cache: CandleCache, above: Series, open_time: int, now: int) -> Candle | None:
    """The candle over its children; None where it would have a part of its values."""
    parent = TIMEFRAMES[above.timeframe]
    child = TIMEFRAMES[parent.child or ""]
    below = above._replace(timeframe=child.name)
    found = (cache.get(below, start) for start in child.open_times(open_time, parent.close_time(open_time) - 1))
    children = [candle for candle in found if candle]
    candle = roll_up(above, parent, open_time, children, child)
    if candle is None or candle.closed or not children[-1].closed:
        return candle
    end = child.close_time(children[-1].bar.open_time)
    return None if end + NEXT_CHILD_GRACE_MS < now or _has_newer_children(cache, below, end) else candle


def _has_newer_children(cache: CandleCache, series: Series, end: int) -> bool:
    """Whether shorter candles are known from then on: the one that holds them is missing."""
    name: str | None = series.timeframe
    while name:
        if cache.latest_open_time.get(series._replace(timeframe=name), -1) >= end:
            return True
        name = TIMEFRAMES[name].child
    return False
