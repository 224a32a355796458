"""How far back a value looks, so that it never depends on where the candles at hand begin."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from services.core.history import BEGINNING
from services.core.indicators.columns import Columns, Floats, Whole
from services.core.timeframes import DAY, MINUTE, MONDAY, Timeframe

Parameters = tuple[float, ...]
Run = Callable[[Columns], tuple[Floats, ...]]
FORGOTTEN = 1e-15  # what may be left of what was before a recursive value's first candle
CLOSE = 1e-9  # values that differ by less, relatively, are the same
STARTS = 8  # from which a path is followed
TURNS = 2


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
    `TURNS` times it may still be the way that it began with.
    """

    count: Callable[..., int]
    side: Callable[[Columns, tuple[Floats, ...]], Floats]

    def warmup(self, parameters: Parameters, timeframe: Timeframe, opening: int) -> int:
        """What is mostly enough."""
        return self.count(*parameters)

    def settled(self, run: Run, columns: Columns, parameters: Parameters, timeframe: Timeframe) -> int:
        """Where the ways from all starts in the first half of the warm-up have turned, and met for good."""
        length, whole = len(columns.time), run(columns)
        half, place = self.count(*parameters) // 2, 0
        for start in range(half // STARTS, half + 1, half // STARTS):
            part = columns.between(start, length)
            way = run(part)
            place = max(place, start + self._turned(self.side(part, way)))
            for ours, theirs in zip(whole, way, strict=True):
                apart = np.flatnonzero(~np.isclose(ours[start:], theirs, rtol=CLOSE, atol=0, equal_nan=True))
                place = max(place, start + int(apart[-1]) + 1 if apart.size else 0)
        return min(place, length)

    @staticmethod
    def _turned(sides: Floats) -> int:
        turns = np.flatnonzero(sides[1:] * sides[:-1] < 0) + 1
        return int(turns[TURNS - 1]) if len(turns) >= TURNS else len(sides)


class Anchored(NamedTuple):
    """Since an anchor: `places` answers a number for each opening that changes where a new count begins. `before`: so
    many whole counts before that one matter too."""

    places: Callable[[Whole, Timeframe], Whole]
    before: int = 0

    def warmup(self, parameters: Parameters, timeframe: Timeframe, opening: int) -> int:
        """Back to the anchor, and one more that shows that the anchor's first candle is not missing."""
        since = self._anchor(timeframe, opening)
        for _ in range(self.before):
            since = self._anchor(timeframe, timeframe.back(since, 1))
        return timeframe.expected(since, opening - 1) + 1

    def _anchor(self, timeframe: Timeframe, opening: int) -> int:
        """The first opening that the count at `opening` may hold."""
        mine, step = self._place(opening, timeframe), 1
        if mine == self._place(BEGINNING, timeframe):
            return BEGINNING
        while self._place(timeframe.back(opening, step), timeframe) == mine:
            step *= 2
        few, many = step // 2, step  # of the same place, of another
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (
                (middle, many) if self._place(timeframe.back(opening, middle), timeframe) == mine else (few, middle)
            )
        return timeframe.back(opening, few)

    def _place(self, opening: int, timeframe: Timeframe) -> int:
        """The number at one opening."""
        return int(self.places(np.array([opening], np.int64), timeframe)[0])

    def settled(self, run: Run, columns: Columns, parameters: Parameters, timeframe: Timeframe) -> int:
        """At the first anchor that the columns hold."""
        time = columns.time
        if not time.size:
            return 0
        places = self.places(time, timeframe)
        first = self._place(timeframe.back(int(time[0]), 1), timeframe)
        known = int(places[0]) != first or int(places[0]) == self._place(BEGINNING, timeframe)
        starts = [0] * known + (np.flatnonzero(np.diff(places)) + 1).tolist()
        return starts[self.before] if len(starts) > self.before else len(time)


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


PERIODS: Mapping[str, Callable[[Whole], Whole]] = {
    "day": lambda time: time // DAY,
    "week": lambda time: (time - MONDAY) // (7 * DAY),
    "month": lambda time: time.astype("M8[ms]").astype("M8[M]").astype(np.int64),
    "year": lambda time: time.astype("M8[ms]").astype("M8[Y]").astype(np.int64),
    "always": np.zeros_like,
}
"""UTC days, weeks from Monday, months, years: a number for each opening."""


def shorter(timeframe: Timeframe, minutes: int) -> bool:
    """Whether a timeframe is shorter than so many minutes."""
    return 0 < timeframe.length < minutes * MINUTE
