"""Closed candles as rules see them: each indicator computed once, read at one place and the places before it."""

from collections.abc import Mapping
from functools import cached_property
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from services.core.indicators import Columns, Level, compute, levels, parse
from services.core.timeframes import Timeframe

DIGITS = 10  # significant ones that are told: more would be noise of the arithmetic
EQUAL = 1e-9  # of the close; what differs by less is the same
DUST = 1e-3  # of a step; smaller than any difference of means that prices make, larger than what arithmetic leaves
LOOKED = 200  # candles that are looked at
MOVED = 50  # candles: as far as the longest window that a trend is told by
REAL = 4  # the range of those, in this many mean true ranges, makes a movement a real one
MOST_DIGITS = 14  # after the point; what has more is no price that somebody wrote


def rounded(number: float) -> float:
    """With the digits that are told."""
    return float(f"{number:.{DIGITS}g}") + 0.0  # no -0


class Market:
    """Candles and what indicators say of them. Only what was closed is in it. `daily`: candles of 1d for levels."""

    def __init__(self, columns: Columns, timeframe: Timeframe, daily: Columns | None = None) -> None:
        self.columns, self.timeframe, self.daily = columns, timeframe, daily
        self._said: dict[str, Mapping[str, list[float]]] = {}
        self._levels: dict[tuple[str, int], list[Level]] = {}
        self._bars: dict[str, list[float]] = {
            name: column.tolist() for name, column in zip(columns._fields, columns, strict=True)
        }

    def line(self, indicator: str, output: str) -> list[float]:
        """One output of an indicator (`rsi`, `sma:50`) at every candle; NaN where there is none."""
        if indicator not in self._said:
            said = compute(parse(indicator)[0], self.columns, self.timeframe)
            self._said[indicator] = {name: values.tolist() for name, values in said.items()}
        return self._said[indicator][output]

    def bars(self, column: str) -> list[float]:
        """`open`, `high`, `low`, `close` or `volume` of every candle."""
        return self._bars[column]

    @cached_property
    def steps(self) -> list[float]:
        """One in the last digit after the point that any price of the last `LOOKED` candles has, at every candle."""
        prices, digits = np.stack(self.columns[1:5]), np.zeros(len(self.columns.time), np.int64)
        for count in range(MOST_DIGITS):
            digits += (np.round(prices, count) != prices).any(axis=0) & (digits == count)
        padded = np.concatenate([np.zeros(LOOKED - 1, np.int64), digits])
        most = np.lib.stride_tricks.sliding_window_view(padded, LOOKED).max(axis=1) if len(digits) else digits
        return [float(f"1e-{count}") for count in most.tolist()]

    @cached_property
    def ranges(self) -> list[float]:
        """The mean true range at every candle, 0 where only dust is left of it; NaN where there is none."""
        atr = self.line("atr", "atr")
        return [0.0 if one < DUST * step else one for one, step in zip(atr, self.steps, strict=True)]

    @cached_property
    def percents(self) -> list[float]:
        """The same in percent of the close."""
        pairs = zip(self.ranges, self._bars["close"], strict=True)
        return [100 * one / close if close else nan for one, close in pairs]

    def levels(self, indicator: str, place: int) -> list[Level]:
        """The levels of an indicator as of one candle."""
        key = indicator, place
        if key not in self._levels:
            part = self.columns.between(0, place + 1)
            self._levels[key] = levels(parse(indicator)[0], part, self.timeframe, self.daily)
        return self._levels[key]


class At(NamedTuple):
    """A market as of the candle at one place."""

    market: Market
    place: int

    def __call__(self, indicator: str, output: str = "", back: int = 0) -> float:
        """What an indicator says so many candles before; NaN where it says nothing. Its first output has its name."""
        place = self.place - back
        return self.market.line(indicator, output or indicator.partition(":")[0])[place] if place >= 0 else nan

    def bar(self, column: str, back: int = 0) -> float:
        """A column of the candle so many before."""
        place = self.place - back
        return self.market.bars(column)[place] if place >= 0 else nan

    def before(self, back: int = 1) -> "At":
        """The same as of a candle so many before."""
        return At(self.market, self.place - back)

    def levels(self, indicator: str) -> list[Level]:
        """The levels of an indicator."""
        return self.market.levels(indicator, self.place) if self.place >= 0 else []

    def atr(self) -> float:
        """The mean true range; NaN where there is none."""
        return self.market.ranges[self.place] if self.place >= 0 else nan

    def unit(self, back: int = 0) -> float:
        """What differences are measured in: the mean true range so many candles before, or one step where it is less.
        NaN where there is none.
        """
        place = self.place - back
        return max(self.market.ranges[place], self.market.steps[place]) if place >= 0 else nan

    def range(self) -> float:
        """From the lowest low to the highest high of the last `MOVED` candles."""
        columns, span = self.market.columns, slice(max(0, self.place - MOVED + 1), self.place + 1)
        return float(columns.high[span].max() - columns.low[span].min())

    def sign(self, difference: float) -> float:
        """1, 0 or -1: whether one price is above, at or below another. NaN stays."""
        if abs(difference) <= max(EQUAL * abs(self.bar("close")), DUST * self.market.steps[self.place]):
            return 0.0
        return difference / abs(difference)

    def moved(self, difference: float) -> float:
        """A difference of exponential averages, but no more than the last candles' range gives reason for: they still
        move when the price has long stopped. NaN stays.
        """
        most = self.range() / REAL
        return max(-most, min(most, difference)) if not isnan(difference) else difference

    def lean(self, difference: float, full: float) -> float:
        """From -1 to 1: a difference of prices in units of `full` mean true ranges. NaN stays."""
        leaning = difference / (full * self.unit())
        return max(-1.0, min(1.0, leaning)) if not isnan(leaning) else leaning
