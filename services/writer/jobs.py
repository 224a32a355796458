"""The writer's loops: from the bus to the store, settled only after the commit."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from services.bus_input import listen
from services.core.bounds import AHEAD
from services.core.errors import Unavailable
from services.core.model import Gap, Hole, Kline, Rate, Series, State, Trade
from services.ports import Deps
from services.writer.batch_processor import Book, Item
from services.writer.committer import Keeping, Step
from services.writer.quarantine import look_after_dead_letters

SAVE_SECONDS = 1
BATCH = 5_000  # messages that are saved together: what a save costs beside its rows is little then
FEW = 500  # messages; after so few the next batch is given time to fill
BREATH = 0.01  # seconds
SEAL_SECONDS = 30
SETTLING_SECONDS = 5  # until the first look at what is kept: by then the collectors have told their exchanges' time
log = logging.getLogger(__name__)


async def keep_candles(deps: Deps) -> None:
    """Trades and klines become candles; holes and gaps are kept as they are."""
    keeping = Keeping(deps)
    async with asyncio.TaskGroup() as group:
        group.create_task(look_after_dead_letters(deps, keeping.quarantine))
        for work in (_hear_states, _close_silent_minutes, _seal_days, _tell_forming):
            group.create_task(work(keeping))
        async with deps.bus.work("writer", Trade, Kline, Hole, Gap, size=BATCH, alone=True) as batches:
            async for batch in batches:
                await keeping.take(batch)
                if len(batch) < FEW:
                    await deps.clock.sleep(BREATH)


async def _hear_states(keeping: Keeping) -> None:
    async with listen(keeping.deps, State) as messages:
        async for message in messages:
            if isinstance(message, State):
                keeping.states[message.exchange] = message


async def _close_silent_minutes(keeping: Keeping) -> None:
    while True:
        await keeping.deps.clock.sleep(SAVE_SECONDS)
        await _attempted(keeping, partial(_silent, keeping))


async def _tell_forming(keeping: Keeping) -> None:
    while True:
        await keeping.deps.clock.sleep(max(keeping.deps.settings.conflate_ms, 10) / 1000)
        await keeping.tell_forming()


async def _seal_days(keeping: Keeping) -> None:
    pause = SETTLING_SECONDS
    while True:
        await keeping.deps.clock.sleep(pause)
        pause = SEAL_SECONDS
        try:
            kept = await keeping.deps.store.series()
        except Unavailable as error:
            log.warning("days are sealed later: %s", error)
            continue
        for series, ends in kept.items():
            exchange_now = keeping.exchange_now(series.exchange)
            if exchange_now and ends[1] > (limit := max(exchange_now, keeping.deps.clock.now()) + AHEAD):
                await _attempted(keeping, partial(_future_deleted, series, limit))
            await _attempted(keeping, partial(_sealed, series, ends, exchange_now))


async def _attempted(keeping: Keeping, step: Step) -> None:
    """What time alone changes: where that fails, all else goes on."""
    try:
        await keeping.change(step)
    except Exception as error:  # noqa: BLE001  it is in the log with its trace
        keeping.complaints.say("a change failed and is left out: %s", error, exc_info=error)


async def _silent(keeping: Keeping, book: Book, now: int) -> Sequence[Item]:
    return await book.quiet(keeping.states, keeping.drained, now)


async def _sealed(
    series: Series, ends: tuple[int, int], exchange_now: int | None, book: Book, now: int
) -> Sequence[Item]:
    return await book.days(series, *ends, exchange_now or now)


async def _future_deleted(series: Series, since: int, book: Book, now: int) -> Sequence[Item]:
    await book.delete_future(series, since)
    return ()


async def keep_rates(deps: Deps) -> None:
    """The newest rate of each direction, each second: where a process that starts finds the last known."""
    newest: dict[str, Rate] = {}
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(deps, newest))
        while True:
            await deps.clock.sleep(SAVE_SECONDS)
            if newest and await _saved(deps, *newest.values()):
                newest.clear()


async def _hear(deps: Deps, newest: dict[str, Rate]) -> None:
    async with listen(deps, Rate) as messages:
        async for message in messages:
            if isinstance(message, Rate) and any(offer.value is not None for offer in message.offers):
                newest[str(message.direction)] = message


async def _saved(deps: Deps, *items: Rate) -> bool:
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
            await _saved(deps, item)
    return True
