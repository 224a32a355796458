"""The analyst's loops: consume candles, recompute rows, verify them against the store, publish forming values."""

import asyncio
import logging
from contextlib import suppress

from services import bus_input
from services.analyst.analysis_scheduler import AnalysisScheduler, series_to_analyse
from services.analyst.series_window import WindowState
from services.core.errors import KursError, Unavailable
from services.core.model import Candle, ExchangeStatus, IndicatorRequest, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps
from services.sequencing import sequenced_publisher

RECOMPUTE_PAUSE_SECONDS = 0.05
RETRY_SECONDS = 1
FORMING_SECONDS = 1
REST_FACTOR = 4  # a loop rests this many times as long as its work took, so that other work gets its share of the CPU
VERIFY_SECONDS = 15
DELETE_SECONDS = 3600
log = logging.getLogger(__name__)


async def analyse(deps: Deps) -> None:
    """Keep the rows of all configured series up to date until cancelled.

    There is no cursor to resume from: the rows are compared with the candles in the store and corrected.
    """
    scheduler = AnalysisScheduler(
        store=deps.store,
        clock=deps.clock,
        publisher=sequenced_publisher(deps),
        exchanges=deps.exchanges,
        settings=deps.settings,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(_consume(deps, scheduler))
        for loop in (_recompute_loop, _verify_loop, _forming_loop):
            group.create_task(loop(deps, scheduler))


async def delete_old_rows(deps: Deps) -> None:
    """Once an hour delete rows of candles older than the newest `KURS_ANALYSIS_BARS` of each series, and all rows of
    indicators if `KURS_STORE_INDICATORS` is off.
    """
    while True:
        try:
            for series in series_to_analyse(deps.exchanges, deps.settings):
                await _delete_old_rows_of(deps, series)
        except Unavailable as error:
            log.warning("analyst: old rows not deleted, retrying in an hour: %s", error)
        await deps.clock.sleep(DELETE_SECONDS)


async def _delete_old_rows_of(deps: Deps, series: Series) -> None:
    if not deps.settings.store_indicators:
        await deps.store.delete_indicator_values(series)
    if count := deps.settings.analysis_bars:
        timeframe, now = TIMEFRAMES[series.timeframe], deps.clock.now()
        steps = min(count + 1, timeframe.count_between(0, now))  # there is no candle before 1970
        await deps.store.delete_derived(series, 0, timeframe.step_back(timeframe.open_time(now), steps))


async def _consume(deps: Deps, scheduler: AnalysisScheduler) -> None:
    async with bus_input.subscribe(deps, Candle, IndicatorRequest, ExchangeStatus) as messages:
        async for message in messages:
            if isinstance(message, Candle):
                scheduler.on_candle(message)
            elif isinstance(message, ExchangeStatus):
                scheduler.on_status(message)
            elif isinstance(message, IndicatorRequest):
                with suppress(KursError):  # a replica of another version may know more indicators
                    scheduler.on_request(message)


async def _recompute_loop(deps: Deps, scheduler: AnalysisScheduler) -> None:
    loop = asyncio.get_running_loop()
    while True:
        window, started = scheduler.next_window(), loop.time()
        is_live = window is not None and window.state is WindowState.DIRTY
        try:
            if window:
                await scheduler.recompute(window)
        except Unavailable as error:
            log.warning("analyst: rows not saved, retrying in %s s: %s", RETRY_SECONDS, error)
            await deps.clock.sleep(RETRY_SECONDS)
        rest = (REST_FACTOR if scheduler.backfill_running else 1) * (loop.time() - started)
        await deps.clock.sleep(0 if is_live else max(RECOMPUTE_PAUSE_SECONDS, rest))


async def _verify_loop(deps: Deps, scheduler: AnalysisScheduler) -> None:
    while True:
        await deps.clock.sleep(VERIFY_SECONDS)
        try:
            await scheduler.verify()
        except Unavailable as error:
            log.warning("analyst: candles not verified, retrying in %s s: %s", VERIFY_SECONDS, error)


async def _forming_loop(deps: Deps, scheduler: AnalysisScheduler) -> None:
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        await scheduler.publish_forming()
        await deps.clock.sleep(max(FORMING_SECONDS, REST_FACTOR * (loop.time() - started)))
