"""How far back a value looks, so that it never depends on where the candles at hand begin."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import numpy as np

from services.core.history_depth import BEGINNING
from services.core.indicators.columns import Columns, Floats, Whole
from services.core.timeframes import DAY, MINUTE, MONDAY, TIMEFRAMES, Timeframe

Parameters = tuple[float, ...]
Run = Callable[[Columns], tuple[Floats, ...]]
FORGOTTEN = 1e-15  # what may be left of what was before a recursive value's first candle
CLOSE = 1e-9  # values that differ by less, relatively, are the same
FEW = 480  # candles in which a path mostly forgets where it began
STARTS = 8  # from which a path is followed
TURNS = 4
FOLLOWED = 128  # candles of a path that are looked at first, then four times as many


class Memory(Protocol):
    """How far back an indicator looks."""

    def warmup(self, parameters: Parameters, timeframe: Timeframe, opening: int) -> int:
        """Candles that are needed before the one at `opening`."""

    def settled(self, run: Run, columns: Columns, parameters: Parameters, timeframe: Timeframe) -> int:
        """The first place from which on nothing depends on what was before the columns; their length if there is none.

        `run` computes the indicator over columns.
        """


class Bars(NamedTuple):
    """So many candles, by the parameters."""

    count: Callable[..., int]

    def warmup(self, parameters: Parameters, timeframe: Timeframe, opening: int) -> int:
        """The same at every opening."""
        return self.count(*parameters)

    def settled(self, run: Run, columns: Columns, parameters: Parameters, timeframe: Timeframe) -> int:
        """After so many."""
        return min(self.count(*parameters), len(columns.time))


class Path(NamedTuple):
    """Without a bound: a value depends on the way there. Ways from several starts are followed until they are one.

    `side` tells from columns and outputs on which side of the price (1, -1) a value is: until a way has changed sides
    `TURNS` times it may still be the way that it began with. `exact`: ways that turn together, from one value to one
    value, are the same from there on, to the digit, and need not be followed further.
    """

    count: Callable[..., int]
    side: Callable[[Columns, tuple[Floats, ...]], Floats]
    exact: bool = False

    def warmup(self, parameters: Parameters, timeframe: Timeframe, opening: int) -> int:
        """What is mostly enough."""
        return self.count(*parameters)

    def settled(self, run: Run, columns: Columns, parameters: Parameters, timeframe: Timeframe) -> int:
        """Where the ways from all starts in the first half of the warm-up have turned, and met for good."""
        whole, half, place = run(columns), self.count(*parameters) // 2, 0
        for start in range(half // STARTS, half + 1, half // STARTS):
            place = max(place, start + self._met(run, columns.between(start, len(columns.time)), whole, start))
        return min(place, len(columns.time))

    def _met(self, run: Run, columns: Columns, whole: tuple[Floats, ...], start: int) -> int:
        """Where a way that begins with these columns has turned, and met the `whole` one for good."""
        length, near = len(columns.time), 0 if self.exact else CLOSE
        end = min(length, FOLLOWED) if self.exact else length
        while True:
            part = columns.between(0, end)
            way, met = run(part), 0
            for ours, theirs in zip(whole, way, strict=True):
                apart = np.flatnonzero(~np.isclose(ours[start : start + end], theirs, near, 0, equal_nan=True))
                met = max(met, int(apart[-1]) + 1 if apart.size else 0)
            sides = self.side(part, way)
            turns = np.flatnonzero(sides[1:] * sides[:-1] < 0) + 1
            together = turns[turns > met] if self.exact else [met]  # the same just before as well: both turned
            if len(turns) >= TURNS and len(together):
                return max(int(together[0]), int(turns[TURNS - 1]))
            if end == length:
                return length
            end = min(length, 4 * end)


class Period(NamedTuple):
    """Spans of time that follow one another."""

    number: Callable[[Whole], Whole]  # which one each opening is in
    since: Callable[[int], int]  # when the one began that holds a time


class Anchored(NamedTuple):
    """Since a period began, for each timeframe its own. `before`: so many whole periods before that one matter too."""

    period: Callable[[Timeframe], Period]
    before: int = 0

    def warmup(self, parameters: Parameters, timeframe: Timeframe, opening: int) -> int:
        """Back to the beginning, and one more that shows that the period's first candle is not missing."""
        since = self._first(timeframe, opening)
        for _ in range(self.before):
            since = self._first(timeframe, timeframe.back(since, 1))
        return timeframe.expected(since, opening - 1) + 1

    def settled(self, run: Run, columns: Columns, parameters: Parameters, timeframe: Timeframe) -> int:
        """At the first beginning that the columns hold, or after `before` more."""
        time, period = columns.time, self.period(timeframe)
        if not time.size:
            return 0
        oldest = int(time[0])
        whole = self._first(timeframe, oldest) == oldest or period.since(oldest) == BEGINNING
        starts = [0] * whole + (np.flatnonzero(np.diff(period.number(time))) + 1).tolist()
        return starts[self.before] if len(starts) > self.before else len(time)

    def _first(self, timeframe: Timeframe, opening: int) -> int:
        """The first opening in the period that holds this one."""
        return next(timeframe.openings(self.period(timeframe).since(opening), opening), opening)


def windowed(period: float) -> int:
    """Candles before one whose value is made of the last `period`."""
    return int(period) - 1


def smoothed(period: float) -> int:
    """Candles after which an exponential average (2 / (period + 1)) has forgotten what was before."""
    return _forgotten(1 - 2 / (period + 1)) + int(period)


def wilder(period: float) -> int:
    """Candles after which Wilder's average (1 / period) has forgotten what was before."""
    return _forgotten(1 - 1 / period) + int(period)


def _forgotten(rest: float) -> int:
    return math.ceil(math.log(FORGOTTEN) / math.log(rest)) if rest > 0 else 0


def _year(time: int) -> int:
    year = datetime.fromtimestamp(time // 1000, UTC).year
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000


DAILY = Period(lambda time: time // DAY, TIMEFRAMES["1d"].opening)
WEEKLY = Period(lambda time: (time - MONDAY) // (7 * DAY), TIMEFRAMES["1w"].opening)
MONTHLY = Period(lambda time: time.astype("M8[ms]").astype("M8[M]").astype(np.int64), TIMEFRAMES["1M"].opening)
YEARLY = Period(lambda time: time.astype("M8[ms]").astype("M8[Y]").astype(np.int64), _year)
ALWAYS = Period(np.zeros_like, lambda _: BEGINNING)


def shorter(timeframe: Timeframe, minutes: int) -> bool:
    """Whether a timeframe is shorter than so many minutes."""
    return 0 < timeframe.length < minutes * MINUTE
