"""Ledger of the trades and quotes that were sent, with their connections. Tests compare with it."""

from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice

from msgspec import Struct

from services.core.model import Instrument

MAX_ENTRIES = 100_000


class LedgerEntry(Struct, frozen=True, omit_defaults=True):
    """A frame that was written to a socket."""

    number: int  # of the entry; grows by one
    sent: int  # ms
    exchange: str
    connection: int
    instrument: str
    kind: str  # trade, quote, candle, ticker, index
    id: str  # the trade's id, the quote's update id or the value's time
    price: str | None = None  # a trade's, or a quote's bid and ask with a slash between; without faults
    faults: tuple[str, ...] = ()  # that were applied to the frame


class SentLedger:
    """The newest entries, and totals of all."""

    def __init__(self) -> None:
        self._entries: deque[LedgerEntry] = deque(maxlen=MAX_ENTRIES)
        self.totals: Counter[tuple[str, str, str]] = Counter()
        self._last_number = 0

    def add(self, entry: LedgerEntry) -> None:
        """Add an entry; the oldest is dropped."""
        self._entries.append(entry)
        self._last_number = entry.number
        self.totals[entry.exchange, entry.instrument, entry.kind] += 1

    @property
    def next_number(self) -> int:
        """Number of the next entry."""
        return self._last_number + 1

    def read(
        self, exchange: str | None, instrument: Instrument | None, after: int, limit: int
    ) -> tuple[list[LedgerEntry], bool]:
        """Return entries after that number, oldest first, and whether there are more."""
        entries = list(islice(self._matching(exchange, instrument, after), limit + 1))
        return entries[:limit], len(entries) > limit

    def _matching(self, exchange: str | None, instrument: Instrument | None, after: int) -> Iterator[LedgerEntry]:
        oldest = self._entries[0].number if self._entries else 0
        for entry in islice(self._entries, max(0, after + 1 - oldest), None):
            if (not exchange or entry.exchange == exchange) and (not instrument or entry.instrument == str(instrument)):
                yield entry
