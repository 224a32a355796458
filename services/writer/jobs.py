"""The writer's jobs: from the bus to the store. A batch is acknowledged after its commit."""

import asyncio
import logging
from functools import partial

from services.bus_input import subscribe
from services.core.bounds import MAX_EXCHANGE_LEAD_MS
from services.core.errors import Unavailable
from services.core.model import CandleGap, ExchangeStatus, FeedGap, Kline, Rate, Series, Trade
from services.ports import Deps
from services.sequencing import sequenced_publisher
from services.writer.batch_processor import BatchProcessor, PendingChanges
from services.writer.committer import CommitStep, Committer
from services.writer.forming_throttle import FormingThrottle
from services.writer.quarantine import Quarantine, process_dead_letters

SAVE_INTERVAL_SECONDS = 1
MAX_BATCH_MESSAGES = 5_000  # with so many rows a commit's fixed cost is small
SMALL_BATCH_MESSAGES = 500  # after a smaller batch the next one gets time to fill
BATCH_PAUSE_SECONDS = 0.01
MIN_PUBLISH_INTERVAL_MS = 10
SEAL_INTERVAL_SECONDS = 30
FIRST_SEAL_DELAY_SECONDS = 5  # by then the collectors have published their exchanges' times
log = logging.getLogger(__name__)


async def write_candles(deps: Deps) -> None:
    """Build candles from trades and klines, and save them with candle gaps and feed gaps."""
    quarantine = Quarantine(bus=deps.bus, store=deps.store, clock=deps.clock)
    committer = Committer(
        store=deps.store,
        clock=deps.clock,
        publisher=sequenced_publisher(deps),
        quarantine=quarantine,
        throttle=FormingThrottle(deps.settings.conflate_ms),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(process_dead_letters(quarantine, deps.clock))
        for work in (_consume_statuses, _close_idle_minutes, _seal_days, _publish_forming):
            group.create_task(work(deps, committer))
        async with deps.bus.consume(
            "writer", Trade, Kline, CandleGap, FeedGap, size=MAX_BATCH_MESSAGES, exclusive=True
        ) as batches:
            async for batch in batches:
                await committer.write_batch(batch)
                if len(batch) < SMALL_BATCH_MESSAGES:
                    await deps.clock.sleep(BATCH_PAUSE_SECONDS)


async def _consume_statuses(deps: Deps, committer: Committer) -> None:
    async with subscribe(deps, ExchangeStatus) as messages:
        async for message in messages:
            if isinstance(message, ExchangeStatus):
                committer.statuses[message.exchange] = message


async def _close_idle_minutes(deps: Deps, committer: Committer) -> None:
    while True:
        await deps.clock.sleep(SAVE_INTERVAL_SECONDS)
        await _try_step(committer, partial(_idle_minutes_step, committer))


async def _publish_forming(deps: Deps, committer: Committer) -> None:
    while True:
        interval_ms = max(deps.settings.conflate_ms, MIN_PUBLISH_INTERVAL_MS)
        await deps.clock.sleep(interval_ms / 1000)
        await committer.publish_forming()


async def _seal_days(deps: Deps, committer: Committer) -> None:
    pause, clock = FIRST_SEAL_DELAY_SECONDS, deps.clock
    while True:
        await clock.sleep(pause)
        pause = SEAL_INTERVAL_SECONDS
        try:
            stored = await deps.store.series()
        except Unavailable as error:
            log.warning("writer: no days are sealed for now: %s", error)
            continue
        for series, ends in stored.items():
            exchange_now = committer.exchange_now(series.exchange)
            if exchange_now and ends[1] > (limit := max(exchange_now, clock.now()) + MAX_EXCHANGE_LEAD_MS):
                await _try_step(committer, partial(_delete_future_step, series, limit))
            await _try_step(committer, partial(_seal_step, series, ends, exchange_now))


async def _try_step(committer: Committer, step: CommitStep) -> None:
    """Commit a step that no message causes. When it fails, all other steps go on."""
    try:
        await committer.commit(step)
    except Exception as error:  # noqa: BLE001  it is in the log with its trace
        committer.throttled_log.warning("writer: a step failed and is left out: %s", error, exc_info=error)


async def _idle_minutes_step(committer: Committer, processor: BatchProcessor, now: int) -> PendingChanges:
    return await processor.close_idle_minutes(committer.statuses, committer.queue_idle, now)


async def _seal_step(
    series: Series, ends: tuple[int, int], exchange_now: int | None, processor: BatchProcessor, now: int
) -> PendingChanges:
    return await processor.seal_days(series, *ends, exchange_now or now)


async def _delete_future_step(series: Series, since: int, processor: BatchProcessor, now: int) -> PendingChanges:
    return await processor.delete_future_candles(series, since)


async def write_rates(deps: Deps) -> None:
    """Save the newest rate of each direction each second, for processes that start later."""
    newest: dict[str, Rate] = {}
    async with asyncio.TaskGroup() as group:
        group.create_task(_consume_rates(deps, newest))
        while True:
            await deps.clock.sleep(SAVE_INTERVAL_SECONDS)
            if newest and await _save_rates(deps, *newest.values()):
                newest.clear()


async def _consume_rates(deps: Deps, newest: dict[str, Rate]) -> None:
    async with subscribe(deps, Rate) as messages:
        async for message in messages:
            if isinstance(message, Rate) and any(candidate.value is not None for candidate in message.candidates):
                newest[str(message.direction)] = message


async def _save_rates(deps: Deps, *rates: Rate) -> bool:
    """Save rates, one by one if the store rejects them together. Return False if the store is unavailable."""
    try:
        await deps.store.save(*rates)
    except Unavailable as error:
        log.warning("writer: rates are not saved and wait: %s", error)
        return False
    except Exception:
        if len(rates) == 1:
            log.exception("writer: a rate cannot be saved and is dropped: %.300r", rates)
            return True
        for rate in rates:
            await _save_rates(deps, rate)
    return True
