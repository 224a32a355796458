"""Trades in the order of their ids, each once, with the gaps between them."""

from services.core.model import Trade
from services.core.timeframes import MINUTE_MS

ID_RESET_DISTANCE = 100_000  # an id that is this far back is of a new count, not an old trade
MAX_LEAD_TRADES = 5_000  # a minute with more trades before the first known one stays incomplete


class TradeSequencer:
    """One instrument's trades. Those behind a gap wait until it is filled or skipped.

    With `lead_size` the minute of the very first trade is completed: that many trades before it are a gap, and as many
    again while the oldest of them is of the same minute. These trades are the lead.

    `now` is by a clock that is never set.
    """

    def __init__(self, lead_size: int = 0) -> None:
        self.expected_id: int | None = None  # the id that comes next; None: there was no trade yet
        self.gap_since: int | None = None  # when the first gap was detected, by the `now` of `push`
        self._lead_size = lead_size
        self._first: Trade | None = None  # the very first trade, while its lead is incomplete
        self._lead_end = 0  # the trades from this id up to the first one are there
        self._last: Trade | None = None  # that was released
        self._waiting: dict[int, Trade] = {}

    def push(self, trade: Trade, now: int) -> list[Trade]:
        """Add a trade that came at `now`; return the trades that follow now, oldest first."""
        trade_id = trade.trade_id
        if trade_id == self.expected_id and not self._waiting:  # nearly always
            self.expected_id, self._last = trade_id + 1, trade
            return [trade]
        if self.expected_id is None:
            self._start(trade)
        elif trade_id < self.expected_id - ID_RESET_DISTANCE:
            self.expected_id, self._waiting, self._first = trade_id, {}, None
        if self.expected_id is not None and trade_id >= self.expected_id:
            self._waiting.setdefault(trade_id, trade)
        return self._release(now)

    def _start(self, first: Trade) -> None:
        self.expected_id = first.trade_id
        if self._lead_size:
            self._first, self._lead_end = first, first.trade_id
            self.expected_id = max(0, first.trade_id - self._lead_size)

    def first_gap(self) -> range:
        """Return the ids of the first gap; an empty range when there is none."""
        if self.expected_id is None or not self._waiting:
            return range(0)
        return range(self.expected_id, min(self._waiting))

    @property
    def awaits_lead(self) -> bool:
        """Whether the first gap is older than all trades that came."""
        return self._first is not None

    def skip_lead(self, now: int) -> list[Trade]:
        """Do without the lead; return the trades that follow now."""
        first = self._first or self._waiting[min(self._waiting)]
        self._waiting = {trade_id: trade for trade_id, trade in self._waiting.items() if trade_id >= first.trade_id}
        self._first, self.expected_id, self.gap_since = None, first.trade_id, None
        return self._release(now)

    def skip_gap(self, now: int) -> tuple[list[Trade], int, int]:
        """Leave the first gap open; return the trades that follow now, and when those before and after it came."""
        after = self._waiting[min(self._waiting)]
        before = self._last or after
        self.expected_id, self.gap_since = after.trade_id, None
        since, until = sorted((before.received, after.received))  # our wall clock may have been set between the two
        return self._release(now), since, until

    def _release(self, now: int) -> list[Trade]:
        if self._first and not self._complete_lead(self._first, now):
            return []
        released = list[Trade]()
        while self.expected_id is not None and self.expected_id in self._waiting:
            released.append(self._waiting.pop(self.expected_id))
            self.expected_id += 1
        self._last = released[-1] if released else self._last
        if not self._waiting:
            self.gap_since = None
        elif self.gap_since is None:
            self.gap_since = now
        return released

    def _complete_lead(self, first: Trade, now: int) -> bool:
        """Whether the lead is there; then trades older than the last one before the first trade's minute are dropped.

        A lead that is there and does not reach an earlier minute is extended: the next gap is before it.
        """
        oldest, minute = self.expected_id or 0, first.time // MINUTE_MS * MINUTE_MS
        lead = range(oldest, self._lead_end)
        # its last trade is looked up first, because with 1,000 trades in the lead this is done for each one that comes
        if lead and (lead[-1] not in self._waiting or any(trade_id not in self._waiting for trade_id in lead)):
            self.gap_since = now if self.gap_since is None else self.gap_since
            return False
        if oldest and self._waiting[oldest].time >= minute and first.trade_id - oldest < MAX_LEAD_TRADES:
            self._lead_end, self.expected_id = oldest, max(0, oldest - self._lead_size)
            return False
        earlier = (trade_id for trade_id in range(oldest, first.trade_id) if self._waiting[trade_id].time < minute)
        self.expected_id = start = max(earlier, default=oldest)
        self._waiting = {trade_id: trade for trade_id, trade in self._waiting.items() if trade_id >= start}
        self._first = None
        return True
