"""Commits the writer's steps one at a time, retries them, and publishes the candles after each commit."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto
from functools import partial
from itertools import count

from services.core.dead_letters import DeadLetter, DeadLetterCause
from services.core.errors import Unavailable
from services.core.model import Candle, ExchangeStatus, Message
from services.log_throttle import ThrottledLog
from services.ports import Clock, Store
from services.sequencing import SequencedPublisher
from services.writer import metrics
from services.writer.batch_processor import BatchProcessor, CandleKey, PendingChanges, StoreRejectedError
from services.writer.forming_throttle import FormingThrottle
from services.writer.quarantine import Quarantine

CommitStep = Callable[[BatchProcessor, int], Awaitable[PendingChanges]]
RETRY_SECONDS = 0.5
MAX_ATTEMPTS = 2  # of a message alone, before it becomes a dead letter
REDELIVERY_WINDOW_MS = 60_000  # after the start, in which the bus may redeliver a previous writer's last batches
MAX_PUBLISHED_CANDLES = 500  # at once, so that other tasks run in between
QUEUE_IDLE_MS = 3_000  # without a batch, after which none waits in the queue
log = logging.getLogger(__name__)


class CommitterState(Enum):
    """How far the state in memory can be trusted, and a previous writer's last batches are over."""

    UNLOADED = auto()  # at the start and after a failure: the next step loads what is stored
    FRESH = auto()  # a redelivered batch may be of a writer that saved it and did not publish it
    STEADY = auto()


class CommitterEvent(Enum):
    """What changes the state."""

    LOADED = auto()
    STEP_BEGINS = auto()
    FAILED = auto()


def next_state(state: CommitterState, event: CommitterEvent, age_ms: int) -> CommitterState:
    """Return the state after an event, `age_ms` after the start of the process."""
    if event is CommitterEvent.FAILED:
        return CommitterState.UNLOADED
    if event is CommitterEvent.STEP_BEGINS and state is CommitterState.UNLOADED:
        return CommitterState.UNLOADED
    return CommitterState.FRESH if age_ms < REDELIVERY_WINDOW_MS else CommitterState.STEADY


class Committer:
    """The only user of the batch processor."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        publisher: SequencedPublisher,
        quarantine: Quarantine,
        throttle: FormingThrottle,
    ) -> None:
        self._store, self._clock, self._publisher, self._throttle = store, clock, publisher, throttle
        self.quarantine, self.throttled_log = quarantine, ThrottledLog(log)
        self.statuses: dict[str, ExchangeStatus] = {}
        self.state = CommitterState.UNLOADED
        self._started_at = self._last_batch_at = clock.monotonic()
        self._processor = BatchProcessor(store)
        self._unpublished: set[CandleKey] = set()  # candles that may be saved and were not published
        self._commit_lock = asyncio.Lock()

    async def write_batch(self, batch: Sequence[Message]) -> None:
        """Save what a batch comes to. A message that cannot be saved becomes a dead letter, and costs only itself."""
        self._last_batch_at = self._clock.monotonic()
        await self._write_messages(*self.quarantine.separate_invalid(batch))

    async def _write_messages(self, messages: Sequence[Message], dead_letters: Sequence[DeadLetter] = ()) -> None:
        if len(messages) == 1:
            await self._write_single(messages[0], dead_letters)
            return
        try:
            await self.commit(partial(_apply_messages, messages, dead_letters))
        except Exception as error:
            if not messages:
                raise
            log.warning("writer: a batch of %d messages failed and is halved: %s", len(messages), type(error).__name__)
            middle = len(messages) // 2
            await self._write_messages(messages[:middle], dead_letters)
            await self._write_messages(messages[middle:])
        else:
            self.quarantine.on_saved(dead_letters)

    async def _write_single(self, message: Message, dead_letters: Sequence[DeadLetter]) -> None:
        """Save one message, or its dead letter: whichever the store takes first."""
        for attempt in count(1):
            try:
                await self.commit(partial(_apply_messages, (message,), dead_letters))
            except Exception as error:  # noqa: BLE001  it is in the log with its trace
                text = "writer: a single message failed (attempt %d): %.300r"
                self.throttled_log.warning(text, attempt, message, exc_info=error)
                cause = DeadLetterCause.MESSAGE if isinstance(error, StoreRejectedError) else DeadLetterCause.PROGRAM
                letters = *dead_letters, self.quarantine.dead_letter(message, cause, error.__cause__ or error)
            else:
                self.quarantine.on_saved(dead_letters)
                return
            await self._clock.sleep(RETRY_SECONDS)
            if attempt >= MAX_ATTEMPTS and await self._save_dead_letters(letters):
                return

    async def _save_dead_letters(self, letters: Sequence[DeadLetter]) -> bool:
        try:
            await self._store.save(*letters)
        except Unavailable as error:
            log.warning("writer: dead letters are not saved and wait: %s", error)
            return False
        self.quarantine.on_saved(letters)
        return True

    async def commit(self, step: CommitStep) -> None:
        """Take a step and save it. While the store is unavailable the step is repeated on what is stored.

        Any other error is raised; the next step then begins with what is stored.
        """
        async with self._commit_lock:
            while True:
                try:
                    candles = await self._commit_once(step)
                    break
                except Unavailable as error:
                    log.warning("writer: candles are not saved and wait: %s", error)
                    self._transition(CommitterEvent.FAILED)
                    await self._clock.sleep(RETRY_SECONDS)
                except Exception:
                    self._transition(CommitterEvent.FAILED)
                    raise
            await self._publish(candles)

    async def _commit_once(self, step: CommitStep) -> Sequence[Candle]:
        """Return the candles to publish."""
        self._transition(CommitterEvent.STEP_BEGINS)
        if loads := self.state is CommitterState.UNLOADED:
            await self._load()
        with metrics.BATCH_SECONDS.time():
            pending = await step(self._processor, self._clock.now())
            redelivered = pending.redelivered if self.state is CommitterState.FRESH else frozenset()
            candles = pending.candles
            self._unpublished |= redelivered | {(candle.series, candle.bar.open_time) for candle in candles}
            await pending.commit()
        if loads or redelivered:
            candles = await self._processor.current_candles(self._unpublished)
        self._unpublished.clear()
        return candles

    async def _load(self) -> None:
        self._processor = BatchProcessor(self._store)
        await self._processor.load()
        self._transition(CommitterEvent.LOADED)
        # A previous writer may have ended between a commit and the publishing of its candles.
        self._unpublished |= self._processor.last_two_candles()

    def _transition(self, event: CommitterEvent) -> None:
        self.state = next_state(self.state, event, self._clock.monotonic() - self._started_at)

    async def publish_forming(self) -> None:
        """Publish forming candles that the throttle held back."""
        async with self._commit_lock:
            await self._publish(())

    async def _publish(self, candles: Sequence[Candle]) -> None:
        for candle in candles:
            metrics.CANDLES_SAVED.labels(candle.series.exchange).inc()
        ready = self._throttle.ready(candles, self._clock.monotonic())
        for start in range(0, len(ready), MAX_PUBLISHED_CANDLES):
            try:
                await self._publisher.publish(*ready[start : start + MAX_PUBLISHED_CANDLES])
            except Unavailable as error:
                log.warning("writer: %d candles are saved and not published: %s", len(ready) - start, error)
                break

    @property
    def queue_idle(self) -> bool:
        """Whether no message can be waiting in the writer's queue."""
        return self._clock.monotonic() - self._last_batch_at > QUEUE_IDLE_MS

    def exchange_now(self, exchange: str) -> int | None:
        """Return the exchange's time as of its collector's last status."""
        status = self.statuses.get(exchange)
        return None if status is None or status.clock_offset is None else status.time + status.clock_offset


async def _apply_messages(
    messages: Sequence[Message], dead_letters: Sequence[DeadLetter], processor: BatchProcessor, now: int
) -> PendingChanges:
    return await processor.apply(messages, now, dead_letters)
