"""What waits to be published: of quotes the newest per instrument, of trades, candles and gaps all."""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from services.core.model import FeedGap, Instrument, Kline, Quote, Trade

Publishable = Quote | Trade | Kline | FeedGap


class PublishQueue:
    """Quotes are replaced by newer ones; the rest waits, and when there is too much the oldest becomes a gap.

    Quotes of one instrument are taken at most every `pace` ms, the first after a pause at once; nothing else waits.
    """

    def __init__(self, pace: int = 0, limit: int = 10_000) -> None:
        self._pace, self._limit = pace, limit
        self._quotes: dict[Instrument, Quote] = {}
        self._taken_at: dict[Instrument, int] = {}  # when a quote of it was last
        self._queue: deque[Trade | Kline] = deque()
        self._gaps: dict[tuple[Instrument | None, str], FeedGap] = {}

    def __bool__(self) -> bool:
        return bool(self._quotes or self._queue or self._gaps)

    @property
    def half_full(self) -> bool:
        """Whether half of what may wait does."""
        return len(self._queue) > self._limit // 2

    def put(self, *messages: Publishable) -> None:
        """More of them. Gaps of one instrument and reason become one."""
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
        """How many ms until there is something to take; None: nothing waits."""
        if self._queue or self._gaps:
            return 0
        return min((max(0, self._ready_at(instrument) - now) for instrument in self._quotes), default=None)

    def take(self, now: int, size: int = 500) -> list[Publishable]:
        """Up to about `size` messages to publish now: gaps, trades and candles, then the quotes that are due."""
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
        """They could not be published: quotes stay unless there are newer ones, the rest comes first again."""
        for message in messages:
            if isinstance(message, FeedGap):
                self._merge_gap(message)
            elif isinstance(message, Quote):
                self._quotes.setdefault(message.instrument, message)
        self._queue.extendleft(m for m in reversed(messages) if isinstance(m, Trade | Kline))
        self._drop_oldest()

    def _merge_gap(self, gap: FeedGap) -> None:
        known = self._gaps.setdefault((gap.instrument, gap.reason), gap)
        since, until = min(known.since, gap.since), max(known.until, gap.until)
        self._gaps[known.instrument, known.reason] = FeedGap(
            known.exchange, since, until, known.reason, known.instrument
        )

    def _ready_at(self, instrument: Instrument) -> int:
        return self._taken_at.get(instrument, -self._pace) + self._pace

    def _drop_oldest(self) -> None:
        while len(self._queue) > self._limit:
            lost = self._queue.popleft()
            if isinstance(lost, Kline):
                continue  # the exchange has it still: it is asked for again
            reason = "trades waited too long for the bus"
            self._merge_gap(FeedGap(lost.exchange, lost.received, lost.received, reason, lost.instrument))
