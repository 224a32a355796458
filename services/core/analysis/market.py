"""Closed candles as rules see them: each indicator computed once, read at one place and the places before it."""

from collections.abc import Mapping
from functools import cached_property
from math import isnan, nan
from typing import NamedTuple

from services.core.indicators import Columns, Level, compute, levels, parse
from services.core.timeframes import Timeframe

DIGITS = 10  # significant ones that are told: more would be noise of the arithmetic
EQUAL = 1e-9  # of the close; what differs by less is the same


def rounded(number: float) -> float:
    """With the digits that are told."""
    return float(f"{number:.{DIGITS}g}") + 0.0  # no -0


class Market:
    """Candles and what indicators say of them. Only what was closed is in it."""

    def __init__(self, columns: Columns, timeframe: Timeframe) -> None:
        self.columns, self.timeframe = columns, timeframe
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
    def percents(self) -> list[float]:
        """The mean true range at every candle, in percent of its close; NaN where there is none."""
        atr = self.line("atr", "atr")
        return [100 * one / close if close else nan for one, close in zip(atr, self._bars["close"], strict=True)]

    def levels(self, indicator: str, place: int) -> list[Level]:
        """The levels of an indicator as of one candle."""
        key = indicator, place
        if key not in self._levels:
            self._levels[key] = levels(parse(indicator)[0], self.columns.between(0, place + 1), self.timeframe)
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

    def sign(self, difference: float) -> float:
        """1, 0 or -1: whether one price is above, at or below another. NaN stays."""
        if abs(difference) <= EQUAL * abs(self.bar("close")):
            return 0.0
        return difference / abs(difference)

    def lean(self, difference: float, full: float) -> float:
        """From -1 to 1: a difference of prices in units of `full` mean true ranges. NaN stays."""
        atr = self("atr")
        leaning = difference / (full * atr) if atr else 0.0 * difference
        return max(-1.0, min(1.0, leaning)) if not isnan(leaning) else leaning
