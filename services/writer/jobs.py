"""The writer's loops: from the bus to the store, settled only after the commit."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from services.bus_input import subscribe
from services.core.bounds import MAX_EXCHANGE_LEAD_MS
from services.core.errors import Unavailable
from services.core.model import CandleGap, ExchangeStatus, FeedGap, Kline, Rate, Series, Trade
from services.ports import Deps
from services.writer.batch_processor import BatchProcessor, Change
from services.writer.committer import CommitStep, Committer
from services.writer.quarantine import process_dead_letters

SAVE_INTERVAL_SECONDS = 1
MAX_BATCH_MESSAGES = 5_000  # messages that are saved together: what a save costs beside its rows is little then
SMALL_BATCH_MESSAGES = 500  # messages; after so few the next batch is given time to fill
BATCH_PAUSE_SECONDS = 0.01  # seconds
SEAL_INTERVAL_SECONDS = 30
FIRST_SEAL_DELAY_SECONDS = (
    5  # until the first look at what is kept: by then the collectors have told their exchanges' time
)
log = logging.getLogger(__name__)


async def write_candles(deps: Deps) -> None:
    """Trades and klines become candles; holes and gaps are kept as they are."""
    keeping = Committer(deps)
    async with asyncio.TaskGroup() as group:
        group.create_task(process_dead_letters(deps, keeping.quarantine))
        for work in (_consume_statuses, _close_idle_minutes, _seal_days, _publish_forming):
            group.create_task(work(keeping))
        async with deps.bus.consume(
            "writer", Trade, Kline, CandleGap, FeedGap, size=MAX_BATCH_MESSAGES, exclusive=True
        ) as batches:
            async for batch in batches:
                await keeping.write_batch(batch)
                if len(batch) < SMALL_BATCH_MESSAGES:
                    await deps.clock.sleep(BATCH_PAUSE_SECONDS)


async def _consume_statuses(committer: Committer) -> None:
    async with subscribe(committer.deps, ExchangeStatus) as messages:
        async for message in messages:
            if isinstance(message, ExchangeStatus):
                committer.statuses[message.exchange] = message


async def _close_idle_minutes(committer: Committer) -> None:
    while True:
        await committer.deps.clock.sleep(SAVE_INTERVAL_SECONDS)
        await _try_step(committer, partial(_idle_minutes, committer))


async def _publish_forming(committer: Committer) -> None:
    while True:
        await committer.deps.clock.sleep(max(committer.deps.settings.conflate_ms, 10) / 1000)
        await committer.publish_forming()


async def _seal_days(committer: Committer) -> None:
    pause = FIRST_SEAL_DELAY_SECONDS
    while True:
        await committer.deps.clock.sleep(pause)
        pause = SEAL_INTERVAL_SECONDS
        try:
            kept = await committer.deps.store.series()
        except Unavailable as error:
            log.warning("days are sealed later: %s", error)
            continue
        for series, ends in kept.items():
            exchange_now = committer.exchange_now(series.exchange)
            if exchange_now and ends[1] > (
                limit := max(exchange_now, committer.deps.clock.now()) + MAX_EXCHANGE_LEAD_MS
            ):
                await _try_step(committer, partial(_delete_future_candles, series, limit))
            await _try_step(committer, partial(_sealed_days, series, ends, exchange_now))


async def _try_step(committer: Committer, step: CommitStep) -> None:
    """What time alone changes: where that fails, all else goes on."""
    try:
        await committer.commit(step)
    except Exception as error:  # noqa: BLE001  it is in the log with its trace
        committer.throttled_log.warning("a change failed and is left out: %s", error, exc_info=error)


async def _idle_minutes(committer: Committer, processor: BatchProcessor, now: int) -> Sequence[Change]:
    return await processor.close_idle_minutes(committer.statuses, committer.queue_idle, now)


async def _sealed_days(
    series: Series, ends: tuple[int, int], exchange_now: int | None, processor: BatchProcessor, now: int
) -> Sequence[Change]:
    return await processor.seal_days(series, *ends, exchange_now or now)


async def _delete_future_candles(series: Series, since: int, processor: BatchProcessor, now: int) -> Sequence[Change]:
    await processor.delete_future_candles(series, since)
    return ()


async def write_rates(deps: Deps) -> None:
    """The newest rate of each direction, each second: where a process that starts finds the last known."""
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
            if isinstance(message, Rate) and any(offer.value is not None for offer in message.candidates):
                newest[str(message.direction)] = message


async def _save_rates(deps: Deps, *items: Rate) -> bool:
    try:
        await deps.store.save(*items)
    except Unavailable as error:
        log.warning("not saved yet: %s", error)
        return False
    except Exception:
        if len(items) == 1:
            log.exception("a rate cannot be saved, and is left out: %.300r", items)
            return True
        for item in items:
            await _save_rates(deps, item)
    return True
