"""Lookback: how many earlier candles a value depends on, so that it does not depend on where the loaded candles begin.

An indicator declares one of three kinds:

- `FixedLookback`: a number of candles that follows from the parameters. For a window of n candles it is n - 1. An
  exponential average has no end, but the weight of old candles shrinks by a factor for each one: after
  `smoothed(period)` candles it is below 1e-15, less than a double can add to a value.
- `AnchoredLookback`: since a calendar period began, for sums such as VWAP.
- `PathDependentLookback`: no bound at all, for stops that follow a trend and turn.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import numpy as np

from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.indicators.columns import Floats, Ints, OhlcvColumns
from services.core.timeframes import DAY_MS, FIRST_MONDAY_MS, MINUTE_MS, TIMEFRAMES, Timeframe

Parameters = tuple[float, ...]
ComputeOutputs = Callable[[OhlcvColumns], tuple[Floats, ...]]
MAX_RESIDUAL_WEIGHT = 1e-15  # of all candles before the warm-up, in a recursive value
RELATIVE_TOLERANCE = 1e-9  # values that differ by less are equal
PATH_WARMUP_CANDLES = 480  # after which most paths from different starts have converged
PATH_STARTS = 8
MIN_TURNS = 4
FIRST_COMPARED_CANDLES = 128  # of two exact paths; as long as they have not converged, four times as many


class Lookback(Protocol):
    """How many earlier candles a value of an indicator depends on."""

    def warmup(self, parameters: Parameters, timeframe: Timeframe, open_time: int) -> int:
        """Return the number of candles needed before `open_time`."""

    def stable_from(
        self, compute: ComputeOutputs, columns: OhlcvColumns, parameters: Parameters, timeframe: Timeframe
    ) -> int:
        """Return the first index from which on no value depends on candles before the columns, at most their length."""


class FixedLookback(NamedTuple):
    """A number of candles that follows from the parameters."""

    warmup_candles: Callable[..., int]

    def warmup(self, parameters: Parameters, timeframe: Timeframe, open_time: int) -> int:
        """Return the same number at every open time."""
        return self.warmup_candles(*parameters)

    def stable_from(
        self, compute: ComputeOutputs, columns: OhlcvColumns, parameters: Parameters, timeframe: Timeframe
    ) -> int:
        """Return the index after the warm-up."""
        return min(self.warmup_candles(*parameters), len(columns.open_times))


class PathDependentLookback(NamedTuple):
    """No bound: each value depends on all values before it. Whether the past still matters is found by experiment.

    What came before the loaded candles is unknown. So the indicator is computed from the first candle, and again from
    eight later starts: nine paths with nine different pasts. From the index at which all of them agree, the past no
    longer matters. An example with `psar` and four of the pasts (highs and lows are 0.5 around the close; `*` is a
    turn):

        index           8       9      10      11   …     14      15      16      17
        close           9      11      12      13   …     10       9       8       9
        from 0      12.88   12.56    7.50*   7.60   …   8.61   14.50*  14.38   14.10
        from 2      12.61   12.20    7.50*   7.60   …   8.61   14.50*  14.38   14.10
        from 5      10.38    7.50*   7.58    7.78   …   9.10   14.50*  14.38   14.10
        from 6       7.50*   7.50    7.66    7.95   …  14.50*  14.40   14.16   13.76

    The paths from 0 and 2 differ until both turn at index 10, to the same stop. After that they are equal to the digit,
    because a turn replaces the whole state: the stop becomes the extreme of the trend that ended, the extreme and the
    step begin again. The path from 5 turns one candle earlier, and joins them at index 15. The path from 6 has not
    joined yet, so no value here can be trusted. There is no number of candles after which all paths must have joined,
    only one after which they mostly have. A path counts once it has turned `MIN_TURNS` times, because its first trend
    was chosen from two candles. `tests/unit/test_indicators.py` compares the result with series of 9,000 candles.

    `trend_side` is positive where the trend is up and negative where it is down. `exact` says that a common turn to the
    same value makes two paths equal, as above. Without it (a Wilder average is part of the state) paths only approach
    each other, and have converged where all later values are equal within `RELATIVE_TOLERANCE`.
    """

    warmup_candles: Callable[..., int]
    trend_side: Callable[[OhlcvColumns, tuple[Floats, ...]], Floats]
    exact: bool = False

    def warmup(self, parameters: Parameters, timeframe: Timeframe, open_time: int) -> int:
        """Return the number of candles that mostly suffices."""
        return self.warmup_candles(*parameters)

    def stable_from(
        self, compute: ComputeOutputs, columns: OhlcvColumns, parameters: Parameters, timeframe: Timeframe
    ) -> int:
        """Return the index at which the paths from all starts in the first half of the warm-up have converged."""
        longest, half, stable = compute(columns), self.warmup_candles(*parameters) // 2, 0
        for start in range(half // PATH_STARTS, half + 1, half // PATH_STARTS):
            later = columns.slice(start, len(columns.open_times))
            stable = max(stable, start + self._converged_at(compute, later, longest, start))
        return min(stable, len(columns.open_times))

    def _converged_at(
        self, compute: ComputeOutputs, columns: OhlcvColumns, longest: tuple[Floats, ...], start: int
    ) -> int:
        """Return the index in `columns`, which begin at `start`, where their path has joined the longest one."""
        length, tolerance = len(columns.open_times), 0 if self.exact else RELATIVE_TOLERANCE
        end = min(length, FIRST_COMPARED_CANDLES) if self.exact else length
        while True:
            shorter = columns.slice(0, end)
            path, equal_from = compute(shorter), 0
            for expected, computed in zip(longest, path, strict=True):
                different = np.flatnonzero(
                    ~np.isclose(expected[start : start + end], computed, tolerance, 0, equal_nan=True)
                )
                equal_from = max(equal_from, int(different[-1]) + 1 if different.size else 0)
            sides = self.trend_side(shorter, path)
            turns = np.flatnonzero(sides[1:] * sides[:-1] < 0) + 1
            # an exact path has joined at a turn if it was equal just before too: then both paths turned there
            joined = turns[turns > equal_from] if self.exact else [equal_from]
            if len(turns) >= MIN_TURNS and len(joined):
                return max(int(joined[0]), int(turns[MIN_TURNS - 1]))
            if end == length:
                return length
            end = min(length, 4 * end)


class CalendarPeriod(NamedTuple):
    """Consecutive spans of time in UTC."""

    index_of: Callable[[Ints], Ints]  # number of the span of each open time
    start_of: Callable[[int], int]  # first ms of the span that contains a time


class AnchoredLookback(NamedTuple):
    """All candles since a calendar period began, and of `periods_before` whole periods before it."""

    period: Callable[[Timeframe], CalendarPeriod]
    periods_before: int = 0

    def warmup(self, parameters: Parameters, timeframe: Timeframe, open_time: int) -> int:
        """Return the candles back to the start, and one more that shows that the period's first one is not missing."""
        since = self._first_open_time(timeframe, open_time)
        for _ in range(self.periods_before):
            since = self._first_open_time(timeframe, timeframe.step_back(since, 1))
        return timeframe.count_between(since, open_time - 1) + 1

    def stable_from(
        self, compute: ComputeOutputs, columns: OhlcvColumns, parameters: Parameters, timeframe: Timeframe
    ) -> int:
        """Return the index of the first period's start in the columns, or of the one `periods_before` later."""
        open_times, period = columns.open_times, self.period(timeframe)
        if not open_times.size:
            return 0
        oldest = int(open_times[0])
        is_start = self._first_open_time(timeframe, oldest) == oldest or period.start_of(oldest) == EARLIEST_CANDLE_MS
        starts = [0] * is_start + (np.flatnonzero(np.diff(period.index_of(open_times))) + 1).tolist()
        return starts[self.periods_before] if len(starts) > self.periods_before else len(open_times)

    def _first_open_time(self, timeframe: Timeframe, open_time: int) -> int:
        """Return the first open time in the period that contains `open_time`."""
        return next(timeframe.open_times(self.period(timeframe).start_of(open_time), open_time), open_time)


def windowed(period: float) -> int:
    """Return the candles needed before a value over the last `period` candles."""
    return int(period) - 1


def smoothed(period: float) -> int:
    """Return the candles after which older ones have no weight in an exponential average (factor 2 / (period + 1))."""
    return _decay_candles(1 - 2 / (period + 1)) + int(period)


def wilder(period: float) -> int:
    """Return the candles after which older ones have no weight in Wilder's average (factor 1 / period)."""
    return _decay_candles(1 - 1 / period) + int(period)


def _decay_candles(decay: float) -> int:
    return math.ceil(math.log(MAX_RESIDUAL_WEIGHT) / math.log(decay)) if decay > 0 else 0


def _year_start(time: int) -> int:
    year = datetime.fromtimestamp(time // 1000, UTC).year
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000


DAILY = CalendarPeriod(lambda time: time // DAY_MS, TIMEFRAMES["1d"].open_time)
WEEKLY = CalendarPeriod(lambda time: (time - FIRST_MONDAY_MS) // (7 * DAY_MS), TIMEFRAMES["1w"].open_time)
MONTHLY = CalendarPeriod(
    lambda time: time.astype("M8[ms]").astype("M8[M]").astype(np.int64), TIMEFRAMES["1M"].open_time
)
YEARLY = CalendarPeriod(lambda time: time.astype("M8[ms]").astype("M8[Y]").astype(np.int64), _year_start)
ALWAYS = CalendarPeriod(np.zeros_like, lambda _: EARLIEST_CANDLE_MS)


def is_shorter(timeframe: Timeframe, minutes: int) -> bool:
    """Whether a timeframe is shorter than a number of minutes. Months have no fixed length and are not."""
    return 0 < timeframe.length < minutes * MINUTE_MS
