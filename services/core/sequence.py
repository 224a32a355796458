"""Consecutive numbers: each trade passes once and in order, and what is missing is known."""

from services.core.model import Trade

REWIND = 100_000  # a number this far back is a new count, not an old trade


class Sequence:
    """One instrument's trades. Those behind a hole are held until it is filled or given up."""

    def __init__(self) -> None:
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
            self.due, self._held = number, {}
        if number >= self.due:
            self._held.setdefault(number, trade)
        return self._release(now)

    def missing(self) -> range:
        """The numbers of the first hole; empty when there is none."""
        return range(self.due, min(self._held)) if self.due is not None and self._held else range(0)

    def give_up(self, now: int) -> tuple[list[Trade], int, int]:
        """Leave the first hole open: the trades that may pass now, and our times before and after the hole."""
        after = self._held[min(self._held)]
        before = self._last or after
        self.due, self.since = min(self._held), None
        since, until = sorted((before.received, after.received))  # our clock may have been set between the two
        return self._release(now), since, until

    def _release(self, now: int) -> list[Trade]:
        passed = []
        while self.due is not None and self.due in self._held:
            passed.append(self._held.pop(self.due))
            self.due += 1
        self._last = passed[-1] if passed else self._last
        if not self._held:
            self.since = None
        elif self.since is None:
            self.since = now
        return passed
