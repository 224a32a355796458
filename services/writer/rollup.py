"""Roll-ups: whatever changed in a series is rolled up into all longer candles, to the month."""

from collections import defaultdict
from collections.abc import Iterable

from services.core.candles import roll_up
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, parents
from services.writer.candle_cache import StoredCandleCache

NEXT_CHILD_GRACE_MS = 120_000  # after a bar's close, in which the first child of the next bar may still arrive


async def apply_and_roll_up(cache: StoredCandleCache, candles: Iterable[Candle], now: int) -> None:
    """Apply candles to the cache, and then all that are rolled up from those that changed."""
    by_series: defaultdict[Series, list[Candle]] = defaultdict(list)
    for candle in candles:
        by_series[candle.series].append(candle)
    changed: defaultdict[Series, set[int]] = defaultdict(set)
    for series, of_series in by_series.items():
        await cache.load(series, [candle.bar.open_time for candle in of_series])
        changed[series].update(candle.bar.open_time for candle in of_series if cache.apply(candle))
    for name in TIMEFRAMES:  # shorter ones first
        for series in [series for series in changed if series.timeframe == name and changed[series]]:
            for parent in parents(name):
                above = series._replace(timeframe=parent.name)
                changed[above] |= await _roll_up_series(cache, series, above, changed[series], now)


async def _roll_up_series(
    cache: StoredCandleCache, below: Series, above: Series, changed: set[int], now: int
) -> set[int]:
    """Roll up what changed in `below`. Return the open times that change in `above`."""
    parent = TIMEFRAMES[above.timeframe]
    open_times = {parent.open_time(open_time) for open_time in changed}
    await cache.load(above, open_times)
    await cache.load(below, open_times | {parent.close_time(open_time) - 1 for open_time in open_times})
    rolled_up = ((time, _roll_up_candle(cache, above, time, now)) for time in sorted(open_times))
    return {open_time for open_time, candle in rolled_up if candle is not None and cache.apply(candle)}


def _roll_up_candle(cache: StoredCandleCache, above: Series, open_time: int, now: int) -> Candle | None:
    """Return the candle over its children; None where one of them is missing."""
    parent = TIMEFRAMES[above.timeframe]
    child = TIMEFRAMES[parent.child or ""]
    below = above._replace(timeframe=child.name)
    stored = (cache.get(below, start) for start in child.open_times(open_time, parent.close_time(open_time) - 1))
    children = [candle for candle in stored if candle]
    candle = roll_up(above, parent, open_time, children, child)
    if candle is None or candle.closed or not children[-1].closed:
        return candle
    end = child.close_time(children[-1].bar.open_time)
    return None if end + NEXT_CHILD_GRACE_MS < now or _has_newer_children(cache, below, end) else candle


def _has_newer_children(cache: StoredCandleCache, series: Series, end: int) -> bool:
    """Return whether shorter candles open at `end` or later, so that the child that holds them is missing."""
    name: str | None = series.timeframe
    while name:
        if cache.latest_open_time.get(series._replace(timeframe=name), -1) >= end:
            return True
        name = TIMEFRAMES[name].child
    return False
