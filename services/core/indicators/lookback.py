"""How far back a value looks, so that it never depends on where the candles at hand begin."""

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
MAX_RESIDUAL_WEIGHT = 1e-15  # what may be left of what was before a recursive value's first candle
RELATIVE_TOLERANCE = 1e-9  # values that differ by less, relatively, are the same
PATH_WARMUP_CANDLES = 480  # candles in which a path mostly forgets where it began
PATH_STARTS = 8  # from which a path is followed
MIN_TURNS = 4
FIRST_COMPARED_CANDLES = 128  # candles of a path that are looked at first, then four times as many


class Lookback(Protocol):
    """How far back an indicator looks."""

    def warmup(self, parameters: Parameters, timeframe: Timeframe, open_time: int) -> int:
        """Candles that are needed before the one at `opening`."""

    def stable_from(
        self, compute: ComputeOutputs, columns: OhlcvColumns, parameters: Parameters, timeframe: Timeframe
    ) -> int:
        """The first place from which on nothing depends on what was before the columns; their length if there is none.

        `run` computes the indicator over columns.
        """


class FixedLookback(NamedTuple):
    """So many candles, by the parameters."""

    warmup_candles: Callable[..., int]

    def warmup(self, parameters: Parameters, timeframe: Timeframe, open_time: int) -> int:
        """The same at every opening."""
        return self.warmup_candles(*parameters)

    def stable_from(
        self, compute: ComputeOutputs, columns: OhlcvColumns, parameters: Parameters, timeframe: Timeframe
    ) -> int:
        """After so many."""
        return min(self.warmup_candles(*parameters), len(columns.open_times))


class PathDependentLookback(NamedTuple):
    """Without a bound: a value depends on the way there. Ways from several starts are followed until they are one.

    `side` tells from columns and outputs on which side of the price (1, -1) a value is: until a way has changed sides
    `TURNS` times it may still be the way that it began with. `exact`: ways that turn together, from one value to one
    value, are the same from there on, to the digit, and need not be followed further.
    """

    warmup_candles: Callable[..., int]
    trend_side: Callable[[OhlcvColumns, tuple[Floats, ...]], Floats]
    exact: bool = False

    def warmup(self, parameters: Parameters, timeframe: Timeframe, open_time: int) -> int:
        """What is mostly enough."""
        return self.warmup_candles(*parameters)

    def stable_from(
        self, compute: ComputeOutputs, columns: OhlcvColumns, parameters: Parameters, timeframe: Timeframe
    ) -> int:
        """Where the ways from all starts in the first half of the warm-up have turned, and met for good."""
        whole, half, place = compute(columns), self.warmup_candles(*parameters) // 2, 0
        for start in range(half // PATH_STARTS, half + 1, half // PATH_STARTS):
            place = max(
                place, start + self._converged_at(compute, columns.slice(start, len(columns.open_times)), whole, start)
            )
        return min(place, len(columns.open_times))

    def _converged_at(
        self, compute: ComputeOutputs, columns: OhlcvColumns, whole: tuple[Floats, ...], start: int
    ) -> int:
        """Where a way that begins with these columns has turned, and met the `whole` one for good."""
        length, near = len(columns.open_times), 0 if self.exact else RELATIVE_TOLERANCE
        end = min(length, FIRST_COMPARED_CANDLES) if self.exact else length
        while True:
            part = columns.slice(0, end)
            way, met = compute(part), 0
            for ours, theirs in zip(whole, way, strict=True):
                apart = np.flatnonzero(~np.isclose(ours[start : start + end], theirs, near, 0, equal_nan=True))
                met = max(met, int(apart[-1]) + 1 if apart.size else 0)
            sides = self.trend_side(part, way)
            turns = np.flatnonzero(sides[1:] * sides[:-1] < 0) + 1
            together = turns[turns > met] if self.exact else [met]  # the same just before as well: both turned
            if len(turns) >= MIN_TURNS and len(together):
                return max(int(together[0]), int(turns[MIN_TURNS - 1]))
            if end == length:
                return length
            end = min(length, 4 * end)


class CalendarPeriod(NamedTuple):
    """Spans of time that follow one another."""

    index_of: Callable[[Ints], Ints]  # which one each opening is in
    start_of: Callable[[int], int]  # when the one began that holds a time


class AnchoredLookback(NamedTuple):
    """Since a period began, for each timeframe its own. `before`: so many whole periods before that one matter too."""

    period: Callable[[Timeframe], CalendarPeriod]
    periods_before: int = 0

    def warmup(self, parameters: Parameters, timeframe: Timeframe, open_time: int) -> int:
        """Back to the beginning, and one more that shows that the period's first candle is not missing."""
        since = self._first_open_time(timeframe, open_time)
        for _ in range(self.periods_before):
            since = self._first_open_time(timeframe, timeframe.step_back(since, 1))
        return timeframe.count_between(since, open_time - 1) + 1

    def stable_from(
        self, compute: ComputeOutputs, columns: OhlcvColumns, parameters: Parameters, timeframe: Timeframe
    ) -> int:
        """At the first beginning that the columns hold, or after `before` more."""
        time, period = columns.open_times, self.period(timeframe)
        if not time.size:
            return 0
        oldest = int(time[0])
        whole = self._first_open_time(timeframe, oldest) == oldest or period.start_of(oldest) == EARLIEST_CANDLE_MS
        starts = [0] * whole + (np.flatnonzero(np.diff(period.index_of(time))) + 1).tolist()
        return starts[self.periods_before] if len(starts) > self.periods_before else len(time)

    def _first_open_time(self, timeframe: Timeframe, open_time: int) -> int:
        """The first opening in the period that holds this one."""
        return next(timeframe.open_times(self.period(timeframe).start_of(open_time), open_time), open_time)


def windowed(period: float) -> int:
    """Candles before one whose value is made of the last `period`."""
    return int(period) - 1


def smoothed(period: float) -> int:
    """Candles after which an exponential average (2 / (period + 1)) has forgotten what was before."""
    return _decay_candles(1 - 2 / (period + 1)) + int(period)


def wilder(period: float) -> int:
    """Candles after which Wilder's average (1 / period) has forgotten what was before."""
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
    """Whether a timeframe is shorter than so many minutes."""
    return 0 < timeframe.length < minutes * MINUTE_MS
