"""The candles of one series at hand: closed ones as columns, and the forming one."""

from collections.abc import Sequence

import numpy as np

from services.core.indicators import Columns, columns, joined
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES

QUIET = 2_000  # ms without another change
PATIENCE = 30_000  # ms that changes are waited for at most
KEPT = 100  # newest closed candles whose rows are put right whatever happened


class Window:
    """What is known of a series, and what of it is to be done.

    A closed candle that follows on the last one is taken at once. Anything else that is new makes the window `stale`:
    then the store is read, which knows best.
    """

    def __init__(self, series: Series) -> None:
        self.series, self.timeframe = series, TIMEFRAMES[series.timeframe]
        self.closed: Columns = columns(())
        self.daily: Columns | None = None  # closed candles of 1d, where levels are made of these
        self.forming: Candle | None = None
        self.moved = False  # the forming candle did, since it was last looked at
        self.stale = True
        self.due: int | None = None  # the first opening whose rows are to be computed
        self.wrong: int | None = None  # the first opening whose kept rows may say something else now
        self.read = 0  # when the store was read last
        self.changed = 0  # when the last change was heard that the store has to be asked about
        self._heard = 0

    @property
    def follows(self) -> bool:
        """Whether the forming candle follows on the last closed one, so that its values can be told."""
        time, forming = self.closed.time, self.forming
        return bool(forming and time.size and forming.bar.timestamp == self.timeframe.closing(int(time[-1])))

    def hear(self, candle: Candle, now: int) -> None:
        """A candle is new or has changed."""
        if not candle.closed:
            self.forming, self.moved = candle, True
            return
        if self.stale:  # it will be read with all the rest
            self.changed = now
            self._heard += 1
            return
        one, time = columns([candle]), self.closed.time
        if time.size and candle.bar.timestamp == self.timeframe.closing(int(time[-1])):
            self.closed = joined([self.closed, one])
            self._affected(candle.bar.timestamp)
        elif not self._holds(one):
            self.stale, self.changed = True, now
            self._heard += 1

    def ripe(self, now: int) -> bool:
        """Whether the store is to be asked now: what comes in numbers, as history does, is read once it has come."""
        return self.stale and (now - self.changed >= QUIET or now - self.read >= PATIENCE)

    def agrees(self, candles: Sequence[Candle]) -> bool:
        """Whether these newest ones are as they are known here."""
        known = columns([candle for candle in candles if candle.closed])
        return not known.time.size or self._difference(known) is None

    def reading(self) -> int:
        """The store is going to be read; answers what `take` wants to know."""
        self.stale = False
        return self._heard

    def doubt(self, now: int) -> None:
        """Candles that this series is not made of, but its levels are, have changed."""
        self.stale, self.changed = True, now
        self._heard += 1

    def take_daily(self, candles: Sequence[Candle]) -> None:
        """The candles of 1d that the store has. When they are others, the levels of all rows may be."""
        new, old = columns([candle for candle in candles if candle.closed]), self.daily
        self.daily = new
        if old is not None and self.closed.time.size and not _same(old, new):
            self._affected(int(self.closed.time[-KEPT:][0]))

    def take(self, candles: Sequence[Candle], heard: int, now: int) -> None:
        """What the store has. If more was heard meanwhile, it is read again later."""
        if heard != self._heard:
            self.stale = True
            return
        first, new = not self.closed.time.size, columns([candle for candle in candles if candle.closed])
        difference = self._difference(new) if new.time.size else None
        self.closed, self.read = new, now
        if difference is not None:
            self._affected(min(max(difference, int(new.time[-KEPT:][0])), int(new.time[-1])))
            if not first:
                self.wrong = difference if self.wrong is None else min(self.wrong, difference)

    def again(self, due: int, wrong: int | None) -> None:
        """What was taken up is to be done still."""
        self._affected(due)
        self.wrong = wrong if self.wrong is None else min(self.wrong, wrong or self.wrong)

    def _affected(self, opening: int) -> None:
        self.due = opening if self.due is None else min(self.due, opening)
        self._heard += 1

    def _holds(self, one: Columns) -> bool:
        place = int(np.searchsorted(self.closed.time, one.time[0]))
        return place < len(self.closed.time) and all(
            mine[place] == theirs[0] for mine, theirs in zip(self.closed, one, strict=True)
        )

    def _difference(self, new: Columns) -> int | None:
        """The first opening at which the closed candles here are not as the new ones, from where those begin."""
        old = self.closed.between(int(np.searchsorted(self.closed.time, new.time[0])), len(self.closed.time))
        both = min(len(old.time), len(new.time))
        same = [mine[:both] == theirs[:both] for mine, theirs in zip(old, new, strict=True)]
        apart = np.flatnonzero(~np.logical_and.reduce(same))
        if apart.size:
            return int(min(old.time[apart[0]], new.time[apart[0]]))
        rest = (new if len(new.time) > both else old).time[both:]
        return int(rest[0]) if rest.size else None


def _same(one: Columns, other: Columns) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
