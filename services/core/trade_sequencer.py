"""Consecutive numbers: each trade passes once and in order, and what is missing is known."""

from services.core.model import Trade
from services.core.timeframes import MINUTE

REWIND = 100_000  # a number this far back is a new count, not an old trade
MAX_LEAD = 5_000  # trades; a minute with more before its first known one is not completed


class Sequence:
    """One instrument's trades. Those behind a hole are held until it is filled or given up.

    `lead`: so many trades before the very first are missing too, and as many again until one is of an earlier minute:
    so the minute in which we begin is whole.
    """

    def __init__(self, lead: int = 0) -> None:
        self._lead = lead
        self._first: Trade | None = None  # that came, while those that lead up to it are missing
        self._top = 0  # up from there all that leads up to the first is there
        self.due: int | None = None  # the number that comes next
        self.since: int | None = None  # when the open hole was noticed, by the `now` of `take`
        self._last: Trade | None = None
        self._held: dict[int, Trade] = {}

    def take(self, trade: Trade, now: int) -> list[Trade]:
        """A trade came at `now`, of a clock that nobody sets; answers those that may pass, oldest first."""
        number = trade.number
        if number == self.due and not self._held:  # nearly all
            self.due, self._last = number + 1, trade
            return [trade]
        if self.due is None or number < self.due - REWIND:
            began = self.due is not None
            self.due, self._held, self._first = number, {}, None
            if self._lead and not began:
                self._first, self._top, self.due = trade, number, max(0, number - self._lead)
        if number >= self.due:
            self._held.setdefault(number, trade)
        return self._release(now)

    def missing(self) -> range:
        """The numbers of the first hole; empty when there is none."""
        return range(self.due, min(self._held)) if self.due is not None and self._held else range(0)

    @property
    def leading(self) -> bool:
        """Whether what is missing is older than all that came."""
        return self._first is not None

    def begin(self, now: int) -> list[Trade]:
        """Do without the trades that lead up to the first that came: those that may pass now."""
        first = self._first or self._held[min(self._held)]
        self._held = {number: trade for number, trade in self._held.items() if number >= first.number}
        self._first, self.due, self.since = None, first.number, None
        return self._release(now)

    def give_up(self, now: int) -> tuple[list[Trade], int, int]:
        """Leave the first hole open: the trades that may pass now, and our times before and after the hole."""
        after = self._held[min(self._held)]
        before = self._last or after
        self.due, self.since = min(self._held), None
        since, until = sorted((before.received, after.received))  # our clock may have been set between the two
        return self._release(now), since, until

    def _led(self, first: Trade, now: int) -> bool:
        """Whether all is there from the last trade before the first one's minute on; what is older is left out."""
        since, opening = self.due or 0, first.time // MINUTE * MINUTE
        if self._top - 1 not in self._held or any(n not in self._held for n in range(since, self._top)):
            self.since = now if self.since is None else self.since
            return False
        if since and self._held[since].time >= opening and first.number - since < MAX_LEAD:
            self._top, self.due = since, max(0, since - self._lead)
            return False
        self.due = max((n for n in range(since, first.number) if self._held[n].time < opening), default=since)
        self._held = {number: trade for number, trade in self._held.items() if number >= self.due}
        self._first = None
        return True

    def _release(self, now: int) -> list[Trade]:
        passed = list[Trade]()
        if self._first and not self._led(self._first, now):
            return passed
        while self.due is not None and self.due in self._held:
            passed.append(self._held.pop(self.due))
            self.due += 1
        self._last = passed[-1] if passed else self._last
        if not self._held:
            self.since = None
        elif self.since is None:
            self.since = now
        return passed
