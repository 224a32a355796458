"""Keeping candles: a batch is settled after its commit, and everyone is told what changed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count

from services.core.dead_letters import DeadLetter, DeadLetterCause
from services.core.errors import Unavailable
from services.core.model import Candle, ExchangeStatus, Message, Series
from services.log_throttle import ThrottledLog
from services.ports import Deps
from services.sequencing import SequencedPublisher
from services.writer import metrics
from services.writer.batch_processor import BatchProcessor, Change
from services.writer.forming_throttle import FormingThrottle
from services.writer.quarantine import Quarantine

CommitStep = Callable[[BatchProcessor, int], Awaitable[Sequence[Change]]]
RETRY_SECONDS = 0.5
MAX_ATTEMPTS = 2  # of a message alone before it is set aside
REDELIVERY_WINDOW_MS = 60_000  # ms in which a predecessor's last batches come again
MAX_PUBLISHED_CANDLES = 500  # candles that are told at once: others have their turn in between
QUEUE_IDLE_MS = 3_000  # ms without a batch after which none is waiting
log = logging.getLogger(__name__)


class StoreRejectedError(Exception):
    """The store is well, and does not take what a message has become."""


class Committer:
    """The book, one change at a time."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        self.statuses: dict[str, ExchangeStatus] = {}
        self.started_at = self.last_batch_at = deps.clock.monotonic()  # taken: when the last batch was
        self._processor: BatchProcessor | None = None
        self._unpublished: set[tuple[Series, int]] = set()  # what may be kept already, although nobody has heard
        self._commit_lock = asyncio.Lock()
        self._throttle, self._publisher = FormingThrottle(deps.settings.conflate_ms), SequencedPublisher(deps)
        self.quarantine, self.throttled_log = Quarantine(deps), ThrottledLog(log)

    async def write_batch(self, batch: Sequence[Message]) -> None:
        """Keep what a batch comes to. What of it cannot be kept is set aside, and costs only itself."""
        self.last_batch_at = self.deps.clock.monotonic()
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
            log.warning("a batch of %d messages failed, and is parted: %s", len(messages), type(error).__name__)
            middle = len(messages) // 2
            await self._write_messages(messages[:middle], dead_letters)
            await self._write_messages(messages[middle:])
        else:
            self.quarantine.on_saved(dead_letters)

    async def _write_single(self, message: Message, dead_letters: Sequence[DeadLetter]) -> None:
        """Whatever an error is called, the message is dead only if the store takes the letter that says so."""
        for tries in count(1):
            try:
                await self.commit(partial(_apply_messages, (message,), dead_letters))
            except Exception as error:  # noqa: BLE001  it is in the log with its trace
                self.throttled_log.warning("a message failed alone (%d): %.300r", tries, message, exc_info=error)
                cause = DeadLetterCause.MESSAGE if isinstance(error, StoreRejectedError) else DeadLetterCause.PROGRAM
                letters = *dead_letters, self.quarantine.dead_letter(message, cause, error.__cause__ or error)
            else:
                self.quarantine.on_saved(dead_letters)
                return
            await self.deps.clock.sleep(RETRY_SECONDS)
            if tries >= MAX_ATTEMPTS and await self._save_dead_letters(letters):
                return

    async def _save_dead_letters(self, letters: Sequence[DeadLetter]) -> bool:
        try:
            await self.deps.store.save(*letters)
        except Unavailable as error:
            log.warning("not saved yet: %s", error)
            return False
        self.quarantine.on_saved(letters)
        return True

    async def commit(self, step: CommitStep) -> None:
        """Make a change for good. When the store fails it is made again, from what is kept.

        What is raised is not the store's fault, and the next change begins with what is kept.
        """
        async with self._commit_lock:
            while True:
                try:
                    candles = await self._commit_once(step)
                    break
                except Unavailable as error:
                    log.warning("not saved yet: %s", error)
                    self._processor = None
                    await self.deps.clock.sleep(RETRY_SECONDS)
                except Exception:
                    self._processor = None
                    raise
            await self._publish(candles)

    async def _commit_once(self, step: CommitStep) -> Sequence[Candle]:
        """What is to be told."""
        if new := self._processor is None:
            self._processor = BatchProcessor(self.deps.store)
            await self._processor.load()
            self._unpublished |= (
                self._processor.last_two_candles()
            )  # who ended between a commit and the news of it is a predecessor
        with metrics.BATCH_SECONDS.time():
            items = await step(self._processor, self.deps.clock.now())
            candles = [item for item in items if isinstance(item, Candle)]
            # what a predecessor kept in its last moment, and could tell nobody of, is said again by the bus
            again = (
                self._processor.redelivered
                if self.deps.clock.monotonic() - self.started_at < REDELIVERY_WINDOW_MS
                else set()
            )
            self._unpublished |= again | {(candle.series, candle.bar.open_time) for candle in candles}
            if items:
                await self._save(items)
            self._processor.on_saved(items)
        told = await self._processor.current_candles(self._unpublished) if new or again else candles
        self._unpublished.clear()
        return told

    async def _save(self, items: Sequence[Change]) -> None:
        try:
            await self.deps.store.save(*items)
        except Unavailable:
            raise
        except Exception as error:
            raise StoreRejectedError(str(error)) from error

    async def publish_forming(self) -> None:
        """Tell of forming candles that had to wait."""
        async with self._commit_lock:
            await self._publish(())

    async def _publish(self, candles: Sequence[Candle]) -> None:
        for candle in candles:
            metrics.CANDLES_SAVED.labels(candle.series.exchange).inc()
        news = self._throttle.ready(candles, self.deps.clock.monotonic())
        for start in range(0, len(news), MAX_PUBLISHED_CANDLES):
            try:
                await self._publisher.publish(*news[start : start + MAX_PUBLISHED_CANDLES])
            except Unavailable as error:
                log.warning("%d candles are saved, but not told: %s", len(news) - start, error)
                break

    @property
    def queue_idle(self) -> bool:
        """Whether nothing can be waiting to be taken."""
        return self.deps.clock.monotonic() - self.last_batch_at > QUEUE_IDLE_MS

    def exchange_now(self, exchange: str) -> int | None:
        """The exchange's time, as its collector last told it."""
        state = self.statuses.get(exchange)
        return None if state is None or state.clock_offset is None else state.time + state.clock_offset


async def _apply_messages(
    messages: Sequence[Message], dead_letters: Sequence[DeadLetter], processor: BatchProcessor, now: int
) -> Sequence[Change]:
    return [*dead_letters, *await processor.apply(messages, now)]
