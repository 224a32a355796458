"""Messages that cannot be kept: parted from their batch, and set aside with the reason as dead letters."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from services.core.bounds import clean_text, find_violation
from services.core.dead_letters import DeadLetter, DeadLetterCause, from_message, to_message
from services.core.errors import DeadLettered, Unavailable
from services.core.model import Message
from services.log_throttle import ThrottledLog
from services.ports import Deps
from services.web import Check
from services.writer import metrics

QUEUE = "writer"
CHECK_INTERVAL_SECONDS = 2
log = logging.getLogger(__name__)


class Quarantine:
    """What is set aside of the writer's queue. It is saved with the batch that it was parted from."""

    def __init__(self, deps: Deps) -> None:
        self._deps, self._throttled_log = deps, ThrottledLog(log)

    def separate_invalid(self, batch: Sequence[Message]) -> tuple[list[Message], list[DeadLetter]]:
        """A batch without what is out of range, and that as dead letters."""
        now, good, dead = self._deps.clock.now(), list[Message](), list[DeadLetter]()
        for message in batch:
            if wrong := find_violation(message, now):
                dead.append(from_message(message, QUEUE, DeadLetterCause.MESSAGE, f"out of range: {wrong.detail}", now))
            else:
                good.append(message)
        return good, dead

    def dead_letter(self, message: Message, cause: DeadLetterCause, error: BaseException) -> DeadLetter:
        """A message that failed alone."""
        reason = f"{type(error).__name__}: {error}"
        return from_message(message, QUEUE, cause, reason, self._deps.clock.now())

    def on_saved(self, letters: Sequence[DeadLetter]) -> None:
        """They are kept."""
        for letter in letters:
            metrics.DEAD_LETTERS.labels(letter.kind, letter.cause).inc()
        if letters:
            last = letters[-1]
            said = f"{last.kind} {last.symbol} {last.id}: {last.reason}"
            self._throttled_log.warning(
                "%d messages are set aside (see them with: kurs dead), now %s", len(letters), said
            )

    async def process(self) -> None:
        """Take over what the bus has set aside, and publish again what somebody wants to be. Raises Unavailable."""
        deps = self._deps
        metrics.DEAD_LETTERS_KEPT.set(await deps.store.count_dead_letters())
        async with deps.bus.take_dead_letters(QUEUE, deps.clock.now()) as letters:
            if letters:
                await deps.store.save(*letters)
                self.on_saved(letters)
        for letter in await deps.store.dead_letters(replay=True):
            await self._requeue(letter)

    async def _requeue(self, letter: DeadLetter) -> None:
        store, now = self._deps.store, self._deps.clock.now()
        try:
            message = to_message(letter)
        except ValueError as error:
            await store.save(replace(letter, reason=clean_text(f"it still cannot be read: {error}"), replay=False))
            return
        if wrong := find_violation(message, now):
            await store.save(replace(letter, reason=f"still out of range: {wrong.detail}", replay=False))
            return
        await self._deps.bus.publish(message)
        await store.drop_dead_letters(letter.id, replayed=True)


async def process_dead_letters(deps: Deps, quarantine: Quarantine) -> None:
    """Look now and then, for ever."""
    complaints = ThrottledLog(log)
    while True:
        await deps.clock.sleep(CHECK_INTERVAL_SECONDS)
        try:
            async with asyncio.timeout(10 * CHECK_INTERVAL_SECONDS):
                await quarantine.process()
        except (Unavailable, TimeoutError) as error:
            complaints.warning("dead letters are not looked at: %s", error or "the store is slow")
        except Exception as error:  # noqa: BLE001  no reason to end a writer that works
            complaints.warning("dead letters are not looked at: %s", error, exc_info=error)


def checks(deps: Deps) -> Mapping[str, Check]:
    """For `/readyz`: dead letters make nothing unready, but somebody should look at them."""

    async def dead_letters() -> None:
        if found := await deps.store.count_dead_letters():
            raise DeadLettered(f"{found} messages could not be kept and are set aside: kurs dead lists them")

    return {"dead_letters": dead_letters}
