"""The candles of one series at hand: closed ones as columns, and the forming one."""

from collections.abc import Sequence

import numpy as np

from services.core.indicators import OhlcvColumns, concat_columns, to_columns
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES

RELOAD_QUIET_MS = 2_000  # ms without another change
RELOAD_MAX_DELAY_MS = 30_000  # ms that changes are waited for at most
VERIFIED_CANDLES = 100  # newest closed candles whose rows are put right whatever happened


class SeriesWindow:
    """What is known of a series, and what of it is to be done.

    A closed candle that follows on the last one is taken at once. Anything else that is new makes the window `stale`:
    then the store is read, which knows best.
    """

    def __init__(self, series: Series) -> None:
        self.series, self.timeframe = series, TIMEFRAMES[series.timeframe]
        self.closed: OhlcvColumns = to_columns(())
        self.daily: OhlcvColumns | None = None  # closed candles of 1d, where levels are made of these
        self.forming: Candle | None = None
        self.forming_dirty = False  # the forming candle did, since it was last looked at
        self.needs_reload = True
        self.dirty_from: int | None = None  # the first opening whose rows are to be computed
        self.invalid_from: int | None = None  # the first opening whose kept rows may say something else now
        self.reloaded_at = 0  # when the store was read last
        self.changed_at = 0  # when the last change was heard that the store has to be asked about
        self._version = 0

    @property
    def forming_follows(self) -> bool:
        """Whether the forming candle follows on the last closed one, so that its values can be told."""
        time, forming = self.closed.open_times, self.forming
        return bool(forming and time.size and forming.bar.open_time == self.timeframe.close_time(int(time[-1])))

    def on_candle(self, candle: Candle, now: int) -> None:
        """A candle is new or has changed."""
        if not candle.closed:
            self.forming, self.forming_dirty = candle, True
            return
        if self.needs_reload:  # it will be read with all the rest
            self.changed_at = now
            self._version += 1
            return
        one, time = to_columns([candle]), self.closed.open_times
        if time.size and candle.bar.open_time == self.timeframe.close_time(int(time[-1])):
            self.closed = concat_columns([self.closed, one])
            self._mark_dirty(candle.bar.open_time)
        elif not self._contains(one):
            self.needs_reload, self.changed_at = True, now
            self._version += 1

    def should_reload(self, now: int) -> bool:
        """Whether the store is to be asked now: what comes in numbers, as history does, is read once it has come."""
        return self.needs_reload and (
            now - self.changed_at >= RELOAD_QUIET_MS or now - self.reloaded_at >= RELOAD_MAX_DELAY_MS
        )

    def matches(self, candles: Sequence[Candle]) -> bool:
        """Whether these newest ones are as they are known here."""
        known = to_columns([candle for candle in candles if candle.closed])
        return not known.open_times.size or self._first_difference(known) is None

    def begin_reload(self) -> int:
        """The store is going to be read; answers what `take` wants to know."""
        self.needs_reload = False
        return self._version

    def on_daily_changed(self, now: int) -> None:
        """Candles that this series is not made of, but its levels are, have changed."""
        self.needs_reload, self.changed_at = True, now
        self._version += 1

    def set_daily(self, candles: Sequence[Candle]) -> None:
        """The candles of 1d that the store has. When they are others, the levels of all rows may be."""
        new, old = to_columns([candle for candle in candles if candle.closed]), self.daily
        self.daily = new
        if old is not None and self.closed.open_times.size and not _columns_equal(old, new):
            self._mark_dirty(int(self.closed.open_times[-VERIFIED_CANDLES:][0]))

    def finish_reload(self, candles: Sequence[Candle], version: int, now: int) -> None:
        """What the store has. If more was heard meanwhile, it is read again later."""
        if version != self._version:
            self.needs_reload = True
            return
        first, new = not self.closed.open_times.size, to_columns([candle for candle in candles if candle.closed])
        difference = self._first_difference(new) if new.open_times.size else None
        self.closed, self.reloaded_at = new, now
        if difference is not None:
            self._mark_dirty(min(max(difference, int(new.open_times[-VERIFIED_CANDLES:][0])), int(new.open_times[-1])))
            if not first:
                self.invalid_from = difference if self.invalid_from is None else min(self.invalid_from, difference)

    def restore(self, dirty_from: int, invalid_from: int | None) -> None:
        """What was taken up is to be done still."""
        self._mark_dirty(dirty_from)
        self.invalid_from = (
            invalid_from if self.invalid_from is None else min(self.invalid_from, invalid_from or self.invalid_from)
        )

    def _mark_dirty(self, open_time: int) -> None:
        self.dirty_from = open_time if self.dirty_from is None else min(self.dirty_from, open_time)
        self._version += 1

    def _contains(self, candle: OhlcvColumns) -> bool:
        place = int(np.searchsorted(self.closed.open_times, candle.open_times[0]))
        return place < len(self.closed.open_times) and all(
            mine[place] == theirs[0] for mine, theirs in zip(self.closed, candle, strict=True)
        )

    def _first_difference(self, new: OhlcvColumns) -> int | None:
        """The first opening at which the closed candles here are not as the new ones, from where those begin."""
        old = self.closed.slice(
            int(np.searchsorted(self.closed.open_times, new.open_times[0])), len(self.closed.open_times)
        )
        both = min(len(old.open_times), len(new.open_times))
        same = [mine[:both] == theirs[:both] for mine, theirs in zip(old, new, strict=True)]
        apart = np.flatnonzero(~np.logical_and.reduce(same))
        if apart.size:
            return int(min(old.open_times[apart[0]], new.open_times[apart[0]]))
        rest = (new if len(new.open_times) > both else old).open_times[both:]
        return int(rest[0]) if rest.size else None


def _columns_equal(one: OhlcvColumns, other: OhlcvColumns) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
