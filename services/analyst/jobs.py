"""The analyst's loops: hear candles, keep what they come to, follow those that form."""

import asyncio
import logging
from contextlib import suppress

from services import bus_input
from services.analyst.analysis_scheduler import AnalysisScheduler, series_to_analyse
from services.core.errors import KursError, Unavailable
from services.core.model import Candle, ExchangeStatus, IndicatorRequest
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps

RECOMPUTE_PAUSE_SECONDS = 0.05  # seconds
RETRY_SECONDS = 1
FORMING_SECONDS = 1
REST_FACTOR = 4  # times as long as following took it rests, and as all work did while history comes: that has its turn
VERIFY_SECONDS = 15
DELETE_SECONDS = 3600
log = logging.getLogger(__name__)


async def analyse(deps: Deps) -> None:
    """Follow all configured series until cancelled. Without a cursor: what the store has is compared, and put right."""
    desk = AnalysisScheduler(deps)
    async with asyncio.TaskGroup() as group:
        group.create_task(_consume(deps, desk))
        for work in (_recompute_loop, _verify_loop, _forming_loop):
            group.create_task(work(deps, desk))


async def delete_old_rows(deps: Deps) -> None:
    """Drop the rows of candles that are older than what is to be kept, now and then."""
    count = deps.settings.analysis_bars
    while True:
        try:
            for series in series_to_analyse(deps) if count else ():
                frame, now = TIMEFRAMES[series.timeframe], deps.clock.now()
                back = min(count + 1, frame.count_between(0, now))  # no candle is older
                await deps.store.delete_derived(series, 0, frame.step_back(frame.open_time(now), back))
        except Unavailable as error:
            log.warning("old rows are dropped later: %s", error)
        await deps.clock.sleep(DELETE_SECONDS)


async def _consume(deps: Deps, scheduler: AnalysisScheduler) -> None:
    async with bus_input.subscribe(deps, Candle, IndicatorRequest, ExchangeStatus) as messages:
        async for message in messages:
            if isinstance(message, Candle):
                scheduler.on_candle(message)
            elif isinstance(message, ExchangeStatus):
                scheduler.on_status(message)
            elif isinstance(message, IndicatorRequest):
                with suppress(KursError):  # of another version, which has more indicators
                    scheduler.on_request(message)


async def _recompute_loop(deps: Deps, scheduler: AnalysisScheduler) -> None:
    loop = asyncio.get_running_loop()
    while True:
        window, started = scheduler.next_window(), loop.time()
        live = window is not None and not window.needs_reload
        try:
            if window:
                await scheduler.recompute(window)
        except Unavailable as error:
            log.warning("not saved yet: %s", error)
            await deps.clock.sleep(RETRY_SECONDS)
        rest = (REST_FACTOR if scheduler.backfill_running else 1) * (loop.time() - started)
        await deps.clock.sleep(0 if live else max(RECOMPUTE_PAUSE_SECONDS, rest))


async def _verify_loop(deps: Deps, scheduler: AnalysisScheduler) -> None:
    while True:
        await deps.clock.sleep(VERIFY_SECONDS)
        try:
            await scheduler.verify()
        except Unavailable as error:
            log.warning("candles are compared later: %s", error)


async def _forming_loop(deps: Deps, scheduler: AnalysisScheduler) -> None:
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        await scheduler.publish_forming()
        await deps.clock.sleep(max(FORMING_SECONDS, REST_FACTOR * (loop.time() - started)))
