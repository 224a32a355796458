"""The analyst's loops: hear candles, keep what they come to, follow those that form."""

import asyncio
import logging
from contextlib import suppress

from services import bus_input
from services.analyst.analysis_scheduler import Desk, configured
from services.core.errors import KursError, Unavailable
from services.core.model import Candle, State, Wish
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps

PAUSE = 0.05  # seconds
RETRY_SECONDS = 1
FOLLOW_SECONDS = 1
SHARE = 4  # times as long as following took it rests, and as all work did while history comes: that has its turn
LOOK_SECONDS = 15
FORGET_SECONDS = 3600
log = logging.getLogger(__name__)


async def analyse(deps: Deps) -> None:
    """Follow all configured series until cancelled. Without a cursor: what the store has is compared, and put right."""
    desk = Desk(deps)
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(deps, desk))
        for work in (_keep, _look, _follow):
            group.create_task(work(deps, desk))


async def forget(deps: Deps) -> None:
    """Drop the rows of candles that are older than what is to be kept, now and then."""
    count = deps.settings.analysis_bars
    while True:
        try:
            for series in configured(deps) if count else ():
                frame, now = TIMEFRAMES[series.timeframe], deps.clock.now()
                back = min(count + 1, frame.expected(0, now))  # no candle is older
                await deps.store.forget(series, 0, frame.back(frame.opening(now), back))
        except Unavailable as error:
            log.warning("old rows are dropped later: %s", error)
        await deps.clock.sleep(FORGET_SECONDS)


async def _hear(deps: Deps, desk: Desk) -> None:
    async with bus_input.listen(deps, Candle, Wish, State) as messages:
        async for message in messages:
            if isinstance(message, Candle):
                desk.hear(message)
            elif isinstance(message, State):
                desk.stand(message)
            elif isinstance(message, Wish):
                with suppress(KursError):  # of another version, which has more indicators
                    desk.wish(message)


async def _keep(deps: Deps, desk: Desk) -> None:
    loop = asyncio.get_running_loop()
    while True:
        window, started = desk.next(), loop.time()
        live = window is not None and not window.stale
        try:
            if window:
                await desk.settle(window)
        except Unavailable as error:
            log.warning("not saved yet: %s", error)
            await deps.clock.sleep(RETRY_SECONDS)
        rest = (SHARE if desk.loading else 1) * (loop.time() - started)
        await deps.clock.sleep(0 if live else max(PAUSE, rest))


async def _look(deps: Deps, desk: Desk) -> None:
    while True:
        await deps.clock.sleep(LOOK_SECONDS)
        try:
            await desk.look()
        except Unavailable as error:
            log.warning("candles are compared later: %s", error)


async def _follow(deps: Deps, desk: Desk) -> None:
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        await desk.follow()
        await deps.clock.sleep(max(FOLLOW_SECONDS, SHARE * (loop.time() - started)))
