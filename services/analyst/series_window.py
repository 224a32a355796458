"""The candles of one series in memory, and which of its stored rows are outdated.

A window is in one of four states; `next_state` is the whole machine. The range of outdated rows is kept beside the
state, because it survives a reload.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

import numpy as np

from services.core.indicators import OhlcvColumns, concat_columns, to_columns
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES

RELOAD_QUIET_MS = 2_000  # without another change
RELOAD_MAX_DELAY_MS = 30_000  # after the previous reload, even if changes keep arriving
VERIFIED_CANDLES = 100  # newest closed candles whose rows are corrected after any change


class WindowState(Enum):
    """How the stored rows of a series relate to its candles."""

    CLEAN = "clean"  # the rows say what the candles in memory say
    DIRTY = "dirty"  # some rows are to be computed from the candles in memory
    RELOAD = "reload"  # the store has other candles than the memory
    LOADING = "loading"  # the store is being read, and no candle has arrived since


class WindowEvent(Enum):
    """What happens to a window."""

    OUTDATED = "outdated"  # a closed candle was appended, or a computation failed
    CONFLICT = "conflict"  # a candle does not follow the last one, or the memory is in doubt
    LOAD_STARTED = "load started"
    LOAD_FAILED = "load failed"
    LOADED_CLEAN = "loaded, no row is outdated"
    LOADED_DIRTY = "loaded, some rows are outdated"
    TAKEN = "taken"  # a computation took the range of outdated rows


_TRANSITIONS = {
    WindowState.CLEAN: {
        WindowEvent.OUTDATED: WindowState.DIRTY,
        WindowEvent.CONFLICT: WindowState.RELOAD,
        WindowEvent.TAKEN: WindowState.CLEAN,
    },
    WindowState.DIRTY: {
        WindowEvent.OUTDATED: WindowState.DIRTY,
        WindowEvent.CONFLICT: WindowState.RELOAD,
        WindowEvent.TAKEN: WindowState.CLEAN,
    },
    WindowState.RELOAD: {
        WindowEvent.OUTDATED: WindowState.RELOAD,
        WindowEvent.CONFLICT: WindowState.RELOAD,
        WindowEvent.LOAD_STARTED: WindowState.LOADING,
        WindowEvent.LOAD_FAILED: WindowState.RELOAD,  # a candle arrived before the read failed
        WindowEvent.TAKEN: WindowState.RELOAD,
    },
    WindowState.LOADING: {
        WindowEvent.OUTDATED: WindowState.RELOAD,  # what is being read may lack this candle
        WindowEvent.CONFLICT: WindowState.RELOAD,
        WindowEvent.LOAD_FAILED: WindowState.RELOAD,
        WindowEvent.LOADED_CLEAN: WindowState.CLEAN,
        WindowEvent.LOADED_DIRTY: WindowState.DIRTY,
    },
}


def next_state(state: WindowState, event: WindowEvent) -> WindowState:
    """Return the state after an event. Raises ValueError for an event that cannot happen in that state."""
    try:
        return _TRANSITIONS[state][event]
    except KeyError:
        raise ValueError(f"{event} cannot happen while a series window is {state}") from None


class DirtyRange(NamedTuple):
    """Outdated rows: those of candles from `since` on are computed again.

    Stored rows from `invalid_from` up to `since` are deleted: a change made them wrong, and they are too old to be
    computed again.
    """

    since: int
    invalid_from: int | None = None

    def union(self, other: "DirtyRange | None") -> "DirtyRange":
        """Return the range that covers both."""
        if other is None:
            return self
        invalid = [each for each in (self.invalid_from, other.invalid_from) if each is not None]
        return DirtyRange(min(self.since, other.since), min(invalid, default=None))


class SeriesWindow:
    """Closed candles of a series as columns, its forming candle, and the state of its rows.

    A closed candle that follows the last one is appended. After any other change the store is read again, because only
    the store knows all candles.
    """

    def __init__(self, series: Series) -> None:
        self.series, self.timeframe = series, TIMEFRAMES[series.timeframe]
        self.closed: OhlcvColumns = to_columns(())
        self.daily: OhlcvColumns | None = None  # closed candles of 1d, where price levels are made of these
        self.forming: Candle | None = None
        self.forming_dirty = False  # the forming candle changed since its values were published
        self.state = WindowState.RELOAD
        self.dirty: DirtyRange | None = None
        self.reloaded_at = 0
        self._changed_at = 0  # the last change after which the store has to be read

    @property
    def needs_reload(self) -> bool:
        """Whether the store is to be read, or is being read."""
        return self.state in (WindowState.RELOAD, WindowState.LOADING)

    @property
    def forming_follows(self) -> bool:
        """Whether the forming candle follows the last closed one, so that its values can be computed."""
        open_times, forming = self.closed.open_times, self.forming
        return bool(
            forming and open_times.size and forming.bar.open_time == self.timeframe.close_time(int(open_times[-1]))
        )

    def on_candle(self, candle: Candle, now: int) -> None:
        """Apply a candle that is new or has changed."""
        if not candle.closed:
            self.forming, self.forming_dirty = candle, True
        elif self.state is WindowState.RELOAD:
            self._changed_at = now  # the reload will find the candle
        elif self._follows(candle):
            self.closed = concat_columns([self.closed, to_columns([candle])])
            self._mark_dirty(DirtyRange(candle.bar.open_time))
        elif not self._contains(candle):
            self.request_reload(now)

    def request_reload(self, now: int | None = None) -> None:
        """Have the store read again: once no change has arrived for a while after `now`, or without it at once."""
        self._changed_at = self._changed_at if now is None else now
        self._apply(WindowEvent.CONFLICT)

    def should_reload(self, now: int) -> bool:
        """Whether to read the store now. Candles that arrive in great number, such as history, are read once."""
        quiet, late = now - self._changed_at >= RELOAD_QUIET_MS, now - self.reloaded_at >= RELOAD_MAX_DELAY_MS
        return self.state is WindowState.RELOAD and (quiet or late)

    def matches(self, candles: Sequence[Candle]) -> bool:
        """Whether the memory has these newest candles of the store."""
        stored = to_columns([candle for candle in candles if candle.closed])
        return not stored.open_times.size or self._first_difference(stored) is None

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Read the store inside, and call `finish_reload`. An error leaves the reload to be done."""
        self._apply(WindowEvent.LOAD_STARTED)
        try:
            yield
        except BaseException:
            self._apply(WindowEvent.LOAD_FAILED)
            raise

    def finish_reload(self, candles: Sequence[Candle], now: int) -> None:
        """Take over the candles of the store. They are dropped if a candle arrived while they were read."""
        if self.state is not WindowState.LOADING:
            return
        is_first, stored = not self.closed.open_times.size, to_columns([each for each in candles if each.closed])
        difference = self._first_difference(stored) if stored.open_times.size else None
        self.closed, self.reloaded_at = stored, now
        if difference is not None:
            oldest, newest = int(stored.open_times[-VERIFIED_CANDLES:][0]), int(stored.open_times[-1])
            since = min(max(difference, oldest), newest)
            self.dirty = DirtyRange(since, None if is_first else difference).union(self.dirty)
        self._apply(WindowEvent.LOADED_DIRTY if self.dirty else WindowEvent.LOADED_CLEAN)

    def set_daily(self, candles: Sequence[Candle]) -> None:
        """Take over the candles of 1d of the store. If they differ, so may the price levels of all rows."""
        stored, previous = to_columns([candle for candle in candles if candle.closed]), self.daily
        self.daily = stored
        if previous is not None and self.closed.open_times.size and not _columns_equal(previous, stored):
            self._mark_dirty(DirtyRange(int(self.closed.open_times[-VERIFIED_CANDLES:][0])))

    @contextmanager
    def recomputing(self) -> Iterator[DirtyRange | None]:
        """Take the range of outdated rows, to compute and save them inside. An error puts the range back."""
        taken, self.dirty = self.dirty, None
        self._apply(WindowEvent.TAKEN)
        try:
            yield taken
        except BaseException:
            if taken is not None:
                self._mark_dirty(taken)
            raise

    def _mark_dirty(self, outdated: DirtyRange) -> None:
        self.dirty = outdated.union(self.dirty)
        self._apply(WindowEvent.OUTDATED)

    def _apply(self, event: WindowEvent) -> None:
        self.state = next_state(self.state, event)

    def _follows(self, candle: Candle) -> bool:
        open_times = self.closed.open_times
        return bool(open_times.size) and candle.bar.open_time == self.timeframe.close_time(int(open_times[-1]))

    def _contains(self, candle: Candle) -> bool:
        single, index = to_columns([candle]), int(np.searchsorted(self.closed.open_times, candle.bar.open_time))
        return index < len(self.closed.open_times) and all(
            ours[index] == theirs[0] for ours, theirs in zip(self.closed, single, strict=True)
        )

    def _first_difference(self, stored: OhlcvColumns) -> int | None:
        """Return the first open time at which the memory differs from stored candles, from their first one on."""
        first = int(np.searchsorted(self.closed.open_times, stored.open_times[0]))
        newest = self.closed.slice(first, len(self.closed.open_times))
        common = min(len(newest.open_times), len(stored.open_times))
        equal = [mine[:common] == theirs[:common] for mine, theirs in zip(newest, stored, strict=True)]
        different = np.flatnonzero(~np.logical_and.reduce(equal))
        if different.size:
            return int(min(newest.open_times[different[0]], stored.open_times[different[0]]))
        longer = stored if len(stored.open_times) > common else newest
        beyond = longer.open_times[common:]
        return int(beyond[0]) if beyond.size else None


def _columns_equal(columns: OhlcvColumns, others: OhlcvColumns) -> bool:
    return all(np.array_equal(column, other) for column, other in zip(columns, others, strict=True))
