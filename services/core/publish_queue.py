"""What waits to be published: of quotes the newest per instrument, of trades, candles and gaps all."""

from collections import deque
from collections.abc import Sequence
from itertools import islice

from services.core.model import Gap, Instrument, Kline, Tick, Trade

News = Tick | Trade | Kline | Gap


class Outbox:
    """Quotes are replaced by newer ones; the rest waits, and when there is too much the oldest becomes a gap.

    Quotes of one instrument are taken at most every `pace` ms, the first after a pause at once; nothing else waits.
    """

    def __init__(self, pace: int = 0, limit: int = 10_000) -> None:
        self._pace, self._limit = pace, limit
        self._quotes: dict[Instrument, Tick] = {}
        self._taken: dict[Instrument, int] = {}  # when a quote of it was last
        self._queue: deque[Trade | Kline] = deque()
        self._gaps: dict[tuple[Instrument | None, str], Gap] = {}

    def __bool__(self) -> bool:
        return bool(self._quotes or self._queue or self._gaps)

    @property
    def crowded(self) -> bool:
        """Whether half of what may wait does."""
        return len(self._queue) > self._limit // 2

    def put(self, *messages: News) -> None:
        """More of them. Gaps of one instrument and reason become one."""
        for message in messages:
            match message:
                case Trade() | Kline():
                    self._queue.append(message)
                case Tick():
                    self._quotes[message.instrument] = message
                case Gap():
                    self._note(message)
        self._shorten()

    def wait(self, now: int) -> int | None:
        """How many ms until there is something to take; None: nothing waits."""
        if self._queue or self._gaps:
            return 0
        return min((max(0, self._due(instrument) - now) for instrument in self._quotes), default=None)

    def take(self, now: int, size: int = 500) -> list[News]:
        """Up to about `size` messages to publish now: gaps, trades and candles, then the quotes that are due."""
        waiting = list(islice(self._queue, size))
        quotes = [quote for instrument, quote in self._quotes.items() if self._due(instrument) <= now]
        taken: list[News] = [*self._gaps.values(), *waiting, *quotes]
        self._gaps = {}
        for quote in quotes:
            del self._quotes[quote.instrument]
            self._taken[quote.instrument] = now
        for _ in waiting:
            self._queue.popleft()
        return taken

    def put_back(self, messages: Sequence[News]) -> None:
        """They could not be published: quotes stay unless there are newer ones, the rest comes first again."""
        for message in messages:
            if isinstance(message, Gap):
                self._note(message)
            elif isinstance(message, Tick):
                self._quotes.setdefault(message.instrument, message)
        self._queue.extendleft(m for m in reversed(messages) if isinstance(m, Trade | Kline))
        self._shorten()

    def _note(self, gap: Gap) -> None:
        known = self._gaps.setdefault((gap.instrument, gap.reason), gap)
        since, until = min(known.since, gap.since), max(known.until, gap.until)
        self._gaps[known.instrument, known.reason] = Gap(known.exchange, since, until, known.reason, known.instrument)

    def _due(self, instrument: Instrument) -> int:
        return self._taken.get(instrument, -self._pace) + self._pace

    def _shorten(self) -> None:
        while len(self._queue) > self._limit:
            lost = self._queue.popleft()
            if isinstance(lost, Kline):
                continue  # the exchange has it still: it is asked for again
            reason = "trades waited too long for the bus"
            self._note(Gap(lost.exchange, lost.received, lost.received, reason, lost.instrument))
