"""Consecutive numbers: each trade passes once and in order, and what is missing is known."""

from services.core.model import Trade
from services.core.timeframes import MINUTE_MS

ID_RESET_DISTANCE = 100_000  # a number this far back is a new count, not an old trade
MAX_LEAD_TRADES = 5_000  # trades; a minute with more before its first known one is not completed


class TradeSequencer:
    """One instrument's trades. Those behind a hole are held until it is filled or given up.

    `lead`: so many trades before the very first are missing too, and as many again until one is of an earlier minute:
    so the minute in which we begin is whole.
    """

    def __init__(self, lead: int = 0) -> None:
        self._lead = lead
        self._first: Trade | None = None  # that came, while those that lead up to it are missing
        self._lead_end = 0  # up from there all that leads up to the first is there
        self.expected_id: int | None = None  # the number that comes next
        self.gap_since: int | None = None  # when the open hole was noticed, by the `now` of `take`
        self._last: Trade | None = None
        self._pending: dict[int, Trade] = {}

    def push(self, trade: Trade, now: int) -> list[Trade]:
        """A trade came at `now`, of a clock that nobody sets; answers those that may pass, oldest first."""
        number = trade.trade_id
        if number == self.expected_id and not self._pending:  # nearly all
            self.expected_id, self._last = number + 1, trade
            return [trade]
        if self.expected_id is None or number < self.expected_id - ID_RESET_DISTANCE:
            began = self.expected_id is not None
            self.expected_id, self._pending, self._first = number, {}, None
            if self._lead and not began:
                self._first, self._lead_end, self.expected_id = trade, number, max(0, number - self._lead)
        if number >= self.expected_id:
            self._pending.setdefault(number, trade)
        return self._release(now)

    def first_gap(self) -> range:
        """The numbers of the first hole; empty when there is none."""
        return (
            range(self.expected_id, min(self._pending)) if self.expected_id is not None and self._pending else range(0)
        )

    @property
    def awaits_lead(self) -> bool:
        """Whether what is missing is older than all that came."""
        return self._first is not None

    def skip_lead(self, now: int) -> list[Trade]:
        """Do without the trades that lead up to the first that came: those that may pass now."""
        first = self._first or self._pending[min(self._pending)]
        self._pending = {number: trade for number, trade in self._pending.items() if number >= first.trade_id}
        self._first, self.expected_id, self.gap_since = None, first.trade_id, None
        return self._release(now)

    def skip_gap(self, now: int) -> tuple[list[Trade], int, int]:
        """Leave the first hole open: the trades that may pass now, and our times before and after the hole."""
        after = self._pending[min(self._pending)]
        before = self._last or after
        self.expected_id, self.gap_since = min(self._pending), None
        since, until = sorted((before.received, after.received))  # our clock may have been set between the two
        return self._release(now), since, until

    def _lead_complete(self, first: Trade, now: int) -> bool:
        """Whether all is there from the last trade before the first one's minute on; what is older is left out."""
        since, opening = self.expected_id or 0, first.time // MINUTE_MS * MINUTE_MS
        if self._lead_end - 1 not in self._pending or any(n not in self._pending for n in range(since, self._lead_end)):
            self.gap_since = now if self.gap_since is None else self.gap_since
            return False
        if since and self._pending[since].time >= opening and first.trade_id - since < MAX_LEAD_TRADES:
            self._lead_end, self.expected_id = since, max(0, since - self._lead)
            return False
        self.expected_id = max(
            (n for n in range(since, first.trade_id) if self._pending[n].time < opening), default=since
        )
        self._pending = {number: trade for number, trade in self._pending.items() if number >= self.expected_id}
        self._first = None
        return True

    def _release(self, now: int) -> list[Trade]:
        passed = list[Trade]()
        if self._first and not self._lead_complete(self._first, now):
            return passed
        while self.expected_id is not None and self.expected_id in self._pending:
            passed.append(self._pending.pop(self.expected_id))
            self.expected_id += 1
        self._last = passed[-1] if passed else self._last
        if not self._pending:
            self.gap_since = None
        elif self.gap_since is None:
            self.gap_since = now
        return passed
