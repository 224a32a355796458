"""The job of a replica that invalidates caches when candles change."""

import asyncio
import logging

from services import bus_input
from services.api.analysis import analysis_cache as analysis
from services.api.candles import candle_page_cache, symbol_catalog
from services.core.errors import Unavailable
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps

FLUSH_SECONDS = 0.1
log = logging.getLogger(__name__)


async def invalidate_on_candles(deps: Deps) -> None:
    """Drop cached data of candles that change: in this process through the hub, in the shared cache from here.

    Every replica does it, so one that misses a message does no harm; data that all miss expires within minutes.
    """
    stale: set[str] = set()
    async with asyncio.TaskGroup() as group:
        group.create_task(_consume_candles(deps, stale))
        while True:
            await deps.clock.sleep(FLUSH_SECONDS)
            if stale:
                await _delete_keys(deps, stale)


async def _consume_candles(deps: Deps, stale: set[str]) -> None:
    seen: set[Series] = set()
    async with bus_input.subscribe(deps, Candle) as messages:
        async for candle in messages:
            if not isinstance(candle, Candle):
                continue
            deps.hub.apply(candle)
            if candle.series not in seen:  # it may not be in the catalog of symbols yet
                seen.add(candle.series)
                stale.add(symbol_catalog.CACHE_KEY)
            if candle.closed:
                stale.add(analysis.analysis_cache_key(candle.series))
            if _is_past_page(candle, deps.clock.now()):
                stale.add(candle_page_cache.page_key(candle.series, candle.bar.open_time))


def _is_past_page(candle: Candle, now: int) -> bool:
    opening = candle.bar.open_time
    return bool(candle_page_cache.past_pages(TIMEFRAMES[candle.series.timeframe], opening, opening, now))


async def _delete_keys(deps: Deps, stale: set[str]) -> None:
    keys = set(stale)
    stale.clear()
    try:
        await deps.cache.delete(*keys)
    except Unavailable as error:
        log.warning("candles: cached pages not invalidated, retrying: %s", error)
        stale |= keys
