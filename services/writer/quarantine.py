"""Dead letters: messages that the writer cannot save are separated from their batch, and saved with a reason.

What the bus itself has set aside in any work queue is saved too.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from services.cancellation import is_cancelled
from services.core.bounds import clean_text, find_violation
from services.core.dead_letters import DeadLetter, DeadLetterCause, from_message, to_message
from services.core.errors import DeadLettered, Unavailable
from services.core.model import Message
from services.log_throttle import ThrottledLog
from services.ports import QUEUES, Bus, Clock, Deps, Store
from services.web import Check
from services.writer import metrics

QUEUE = "writer"
CHECK_INTERVAL_SECONDS = 2
CHECK_TIMEOUT_SECONDS = 20
log = logging.getLogger(__name__)


class Quarantine:
    """Dead letters. Those of the writer's queue are saved with the batch that they were separated from."""

    def __init__(self, *, bus: Bus, store: Store, clock: Clock) -> None:
        self._bus, self._store, self._clock = bus, store, clock
        self._throttled_log = ThrottledLog(log)

    def separate_invalid(self, batch: Sequence[Message]) -> tuple[list[Message], list[DeadLetter]]:
        """Return the messages of a batch that are in range, and dead letters of the others."""
        now, valid, dead_letters = self._clock.now(), list[Message](), list[DeadLetter]()
        for message in batch:
            if violation := find_violation(message, now):
                reason = f"out of range: {violation.detail}"
                dead_letters.append(from_message(message, QUEUE, DeadLetterCause.MESSAGE, reason, now))
            else:
                valid.append(message)
        return valid, dead_letters

    def dead_letter(self, message: Message, cause: DeadLetterCause, error: BaseException) -> DeadLetter:
        """Return the dead letter of a message that failed alone."""
        reason = f"{type(error).__name__}: {error}"
        return from_message(message, QUEUE, cause, reason, self._clock.now())

    def on_saved(self, letters: Sequence[DeadLetter]) -> None:
        """Count and log dead letters that were saved."""
        for letter in letters:
            metrics.DEAD_LETTERS.labels(letter.kind, letter.cause).inc()
        if letters:
            last = letters[-1]
            text = "writer: %d messages became dead letters (kurs dead lists them), the last: %s"
            last_text = f"{last.kind} {last.symbol} {last.id}: {last.reason}"
            self._throttled_log.warning(text, len(letters), last_text)

    async def process(self) -> None:
        """Save what the bus has dead-lettered, and publish the letters to be replayed. Raises Unavailable."""
        metrics.DEAD_LETTERS_KEPT.set(await self._store.count_dead_letters())
        for queue in QUEUES:
            async with self._bus.take_dead_letters(queue, self._clock.now()) as letters:
                if letters:
                    await self._store.save(*letters)
                    self.on_saved(letters)
        for letter in await self._store.dead_letters(replay=True):
            await self._requeue(letter)

    async def _requeue(self, letter: DeadLetter) -> None:
        store, now = self._store, self._clock.now()
        try:
            message = to_message(letter)
        except ValueError as error:
            await store.save(replace(letter, reason=clean_text(f"it still cannot be read: {error}"), replay=False))
            return
        if violation := find_violation(message, now):
            await store.save(replace(letter, reason=f"still out of range: {violation.detail}", replay=False))
            return
        await self._bus.publish(message)
        await store.drop_dead_letters(letter.id, replayed=True)


async def process_dead_letters(quarantine: Quarantine, clock: Clock) -> None:
    """Process dead letters at intervals until cancelled."""
    throttled_log = ThrottledLog(log)
    while not is_cancelled():
        await clock.sleep(CHECK_INTERVAL_SECONDS)
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                await quarantine.process()
        except (Unavailable, TimeoutError) as error:
            throttled_log.warning("writer: dead letters wait: %s", str(error) or "the store is slow")
        except Exception as error:  # noqa: BLE001  it does not end a writer that works
            throttled_log.warning("writer: dead letters wait: %s", error, exc_info=error)


def checks(deps: Deps) -> Mapping[str, Check]:
    """Return a check for `/readyz` that fails while there are dead letters. It does not make the process unready."""

    async def dead_letters() -> None:
        if count := await deps.store.count_dead_letters():
            raise DeadLettered(f"{count} messages could not be saved and are dead letters: kurs dead lists them")

    return {"dead_letters": dead_letters}
