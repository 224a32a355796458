"""Keeping candles: a batch is settled after its commit, and everyone is told what changed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count

from services.core.dead_letters import Cause, DeadLetter
from services.core.errors import Unavailable
from services.core.model import Candle, Message, Series, State
from services.log_throttle import Complaints
from services.ports import Deps
from services.sequencing import Teller
from services.writer import metrics
from services.writer.batch_processor import Book, Item
from services.writer.forming_throttle import Pace
from services.writer.quarantine import Quarantine

Step = Callable[[Book, int], Awaitable[Sequence[Item]]]
RETRY_SECONDS = 0.5
TRIES = 2  # of a message alone before it is set aside
YOUNG = 60_000  # ms in which a predecessor's last batches come again
TOLD = 500  # candles that are told at once: others have their turn in between
IDLE = 3_000  # ms without a batch after which none is waiting
log = logging.getLogger(__name__)


class RefusedByStoreError(Exception):
    """The store is well, and does not take what a message has become."""


class Keeping:
    """The book, one change at a time."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        self.states: dict[str, State] = {}
        self.began = self.taken = deps.clock.monotonic()  # taken: when the last batch was
        self._book: Book | None = None
        self._untold: set[tuple[Series, int]] = set()  # what may be kept already, although nobody has heard
        self._turn = asyncio.Lock()
        self._pace, self._teller = Pace(deps.settings.conflate_ms), Teller(deps)
        self.quarantine, self.complaints = Quarantine(deps), Complaints(log)

    async def take(self, batch: Sequence[Message]) -> None:
        """Keep what a batch comes to. What of it cannot be kept is set aside, and costs only itself."""
        self.taken = self.deps.clock.monotonic()
        await self._take(*self.quarantine.part(batch))

    async def _take(self, messages: Sequence[Message], dead: Sequence[DeadLetter] = ()) -> None:
        if len(messages) == 1:
            await self._take_alone(messages[0], dead)
            return
        try:
            await self.change(partial(_taken, messages, dead))
        except Exception as error:
            if not messages:
                raise
            log.warning("a batch of %d messages failed, and is parted: %s", len(messages), type(error).__name__)
            middle = len(messages) // 2
            await self._take(messages[:middle], dead)
            await self._take(messages[middle:])
        else:
            self.quarantine.saved(dead)

    async def _take_alone(self, message: Message, dead: Sequence[DeadLetter]) -> None:
        """Whatever an error is called, the message is dead only if the store takes the letter that says so."""
        for tries in count(1):
            try:
                await self.change(partial(_taken, (message,), dead))
            except Exception as error:  # noqa: BLE001  it is in the log with its trace
                self.complaints.say("a message failed alone (%d): %.300r", tries, message, exc_info=error)
                cause = Cause.MESSAGE if isinstance(error, RefusedByStoreError) else Cause.PROGRAM
                letters = *dead, self.quarantine.letter(message, cause, error.__cause__ or error)
            else:
                self.quarantine.saved(dead)
                return
            await self.deps.clock.sleep(RETRY_SECONDS)
            if tries >= TRIES and await self._set_aside(letters):
                return

    async def _set_aside(self, letters: Sequence[DeadLetter]) -> bool:
        try:
            await self.deps.store.save(*letters)
        except Unavailable as error:
            log.warning("not saved yet: %s", error)
            return False
        self.quarantine.saved(letters)
        return True

    async def change(self, step: Step) -> None:
        """Make a change for good. When the store fails it is made again, from what is kept.

        What is raised is not the store's fault, and the next change begins with what is kept.
        """
        async with self._turn:
            while True:
                try:
                    candles = await self._changed(step)
                    break
                except Unavailable as error:
                    log.warning("not saved yet: %s", error)
                    self._book = None
                    await self.deps.clock.sleep(RETRY_SECONDS)
                except Exception:
                    self._book = None
                    raise
            await self._tell(candles)

    async def _changed(self, step: Step) -> Sequence[Candle]:
        """What is to be told."""
        if new := self._book is None:
            self._book = Book(self.deps.store)
            await self._book.load()
            self._untold |= self._book.recent()  # who ended between a commit and the news of it is a predecessor
        with metrics.BATCH.time():
            items = await step(self._book, self.deps.clock.now())
            candles = [item for item in items if isinstance(item, Candle)]
            # what a predecessor kept in its last moment, and could tell nobody of, is said again by the bus
            again = self._book.repeated if self.deps.clock.monotonic() - self.began < YOUNG else set()
            self._untold |= again | {(candle.series, candle.bar.timestamp) for candle in candles}
            if items:
                await self._save(items)
            self._book.saved(items)
        told = await self._book.kept(self._untold) if new or again else candles
        self._untold.clear()
        return told

    async def _save(self, items: Sequence[Item]) -> None:
        try:
            await self.deps.store.save(*items)
        except Unavailable:
            raise
        except Exception as error:
            raise RefusedByStoreError(str(error)) from error

    async def tell_forming(self) -> None:
        """Tell of forming candles that had to wait."""
        async with self._turn:
            await self._tell(())

    async def _tell(self, candles: Sequence[Candle]) -> None:
        for candle in candles:
            metrics.SAVED.labels(candle.series.exchange).inc()
        news = self._pace.take(candles, self.deps.clock.monotonic())
        for start in range(0, len(news), TOLD):
            try:
                await self._teller.tell(*news[start : start + TOLD])
            except Unavailable as error:
                log.warning("%d candles are saved, but not told: %s", len(news) - start, error)
                break

    @property
    def drained(self) -> bool:
        """Whether nothing can be waiting to be taken."""
        return self.deps.clock.monotonic() - self.taken > IDLE

    def exchange_now(self, exchange: str) -> int | None:
        """The exchange's time, as its collector last told it."""
        state = self.states.get(exchange)
        return None if state is None or state.clock_offset is None else state.time + state.clock_offset


async def _taken(messages: Sequence[Message], dead: Sequence[DeadLetter], book: Book, now: int) -> Sequence[Item]:
    return [*dead, *await book.take(messages, now)]
