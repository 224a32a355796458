"""The queue between an exchange and the bus: the newest quote of each instrument, and all trades, klines and gaps."""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from services.core.model import FeedGap, Instrument, Kline, Quote, Trade

Publishable = Quote | Trade | Kline | FeedGap


class PublishQueue:
    """A bounded queue. A newer quote replaces an older one; of too many trades the oldest become a gap.

    A quote of one instrument is ready at most every `pace` ms, the first after a pause at once. All others are ready
    at once.
    """

    def __init__(self, pace: int = 0, limit: int = 10_000) -> None:
        self._pace, self._limit = pace, limit
        self._quotes: dict[Instrument, Quote] = {}
        self._taken_at: dict[Instrument, int] = {}
        self._queue: deque[Trade | Kline] = deque()
        self._gaps: dict[tuple[Instrument | None, str], FeedGap] = {}

    def __bool__(self) -> bool:
        return bool(self._quotes or self._queue or self._gaps)

    @property
    def half_full(self) -> bool:
        """Whether trades and klines fill more than half of the queue."""
        return len(self._queue) > self._limit // 2

    def put(self, *messages: Publishable) -> None:
        """Add messages. Gaps of one instrument and reason become one."""
        for message in messages:
            match message:
                case Trade() | Kline():
                    self._queue.append(message)
                case Quote():
                    self._quotes[message.instrument] = message
                case FeedGap():
                    self._merge_gap(message)
        self._drop_oldest()

    def ms_until_ready(self, now: int) -> int | None:
        """Return the ms until a message is ready, or None when the queue is empty."""
        if self._queue or self._gaps:
            return 0
        return min((max(0, self._ready_at(instrument) - now) for instrument in self._quotes), default=None)

    def take(self, now: int, size: int = 500) -> list[Publishable]:
        """Remove and return up to about `size` messages: gaps, trades and klines, then the quotes that are ready."""
        waiting = list(islice(self._queue, size))
        quotes = [quote for instrument, quote in self._quotes.items() if self._ready_at(instrument) <= now]
        taken: list[Publishable] = [*self._gaps.values(), *waiting, *quotes]
        self._gaps = {}
        for quote in quotes:
            del self._quotes[quote.instrument]
            self._taken_at[quote.instrument] = now
        for _ in waiting:
            self._queue.popleft()
        return taken

    def requeue(self, messages: Sequence[Publishable]) -> None:
        """Put messages back that could not be published, before the others; a newer quote stays."""
        for message in messages:
            if isinstance(message, FeedGap):
                self._merge_gap(message)
            elif isinstance(message, Quote):
                self._quotes.setdefault(message.instrument, message)
        self._queue.extendleft(m for m in reversed(messages) if isinstance(m, Trade | Kline))
        self._drop_oldest()

    def _merge_gap(self, gap: FeedGap) -> None:
        key = gap.instrument, gap.reason
        other = self._gaps.get(key, gap)
        since, until = min(other.since, gap.since), max(other.until, gap.until)
        self._gaps[key] = FeedGap(gap.exchange, since, until, gap.reason, gap.instrument)

    def _ready_at(self, instrument: Instrument) -> int:
        return self._taken_at.get(instrument, -self._pace) + self._pace

    def _drop_oldest(self) -> None:
        while len(self._queue) > self._limit:
            lost = self._queue.popleft()
            if isinstance(lost, Kline):
                continue  # the backfill requests it again
            reason = "trades waited too long for the bus"
            self._merge_gap(FeedGap(lost.exchange, lost.received, lost.received, reason, lost.instrument))
