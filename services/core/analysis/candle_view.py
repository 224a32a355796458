"""Closed candles as rules see them: each indicator computed once, read at one place and the places before it."""

from collections.abc import Mapping
from functools import cached_property
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from services.core.indicators import OhlcvColumns, PriceLevel, compute, compute_levels, parse_specs
from services.core.timeframes import Timeframe

SIGNIFICANT_DIGITS = 10  # significant ones that are told: more would be noise of the arithmetic
EQUALITY_TOLERANCE = 1e-9  # of the close; what differs by less is the same
NOISE_STEPS = (
    1e-3  # of a step; smaller than any difference of means that prices make, larger than what arithmetic leaves
)
ANALYSED_CANDLES = 200  # candles that are looked at
RANGE_CANDLES = 50  # candles: as far as the longest window that a trend is told by
REAL_MOVE_ATRS = 4  # the range of those, in this many mean true ranges, makes a movement a real one
MAX_DECIMALS = 14  # after the point; what has more is no price that somebody wrote


def round_significant(number: float) -> float:
    """With the digits that are told."""
    return float(f"{number:.{SIGNIFICANT_DIGITS}g}") + 0.0  # no -0


class IndicatorView:
    """Candles and what indicators say of them. Only what was closed is in it. `daily`: candles of 1d for levels."""

    def __init__(self, columns: OhlcvColumns, timeframe: Timeframe, daily: OhlcvColumns | None = None) -> None:
        self.columns, self.timeframe, self.daily = columns, timeframe, daily
        self._outputs: dict[str, Mapping[str, list[float]]] = {}
        self._levels: dict[tuple[str, int], list[PriceLevel]] = {}
        self._bar_values: dict[str, list[float]] = {
            name: column.tolist() for name, column in zip(columns._fields, columns, strict=True)
        }

    def outputs(self, indicator: str, output: str) -> list[float]:
        """One output of an indicator (`rsi`, `sma:50`) at every candle; NaN where there is none."""
        if indicator not in self._outputs:
            said = compute(parse_specs(indicator)[0], self.columns, self.timeframe)
            self._outputs[indicator] = {name: values.tolist() for name, values in said.items()}
        return self._outputs[indicator][output]

    def bar_values(self, column: str) -> list[float]:
        """`open`, `high`, `low`, `close` or `volume` of every candle."""
        return self._bar_values[column]

    @cached_property
    def price_steps(self) -> list[float]:
        """One in the last digit after the point that any price of the last `LOOKED` candles has, at every candle."""
        prices, digits = np.stack(self.columns[1:5]), np.zeros(len(self.columns.open_times), np.int64)
        for count in range(MAX_DECIMALS):
            digits += (np.round(prices, count) != prices).any(axis=0) & (digits == count)
        padded = np.concatenate([np.zeros(ANALYSED_CANDLES - 1, np.int64), digits])
        most = np.lib.stride_tricks.sliding_window_view(padded, ANALYSED_CANDLES).max(axis=1) if len(digits) else digits
        return [float(f"1e-{count}") for count in most.tolist()]

    @cached_property
    def atrs(self) -> list[float]:
        """The mean true range at every candle, 0 where only dust is left of it; NaN where there is none."""
        atr = self.outputs("atr", "atr")
        return [0.0 if one < NOISE_STEPS * step else one for one, step in zip(atr, self.price_steps, strict=True)]

    @cached_property
    def atr_percents(self) -> list[float]:
        """The same in percent of the close."""
        pairs = zip(self.atrs, self._bar_values["close"], strict=True)
        return [100 * one / close if close else nan for one, close in pairs]

    def levels(self, indicator: str, index: int) -> list[PriceLevel]:
        """The levels of an indicator as of one candle."""
        key = indicator, index
        if key not in self._levels:
            part = self.columns.slice(0, index + 1)
            self._levels[key] = compute_levels(parse_specs(indicator)[0], part, self.timeframe, self.daily)
        return self._levels[key]


class CandleView(NamedTuple):
    """A market as of the candle at one place."""

    indicators: IndicatorView
    at: int

    def __call__(self, indicator: str, output: str = "", back: int = 0) -> float:
        """What an indicator says so many candles before; NaN where it says nothing. Its first output has its name."""
        place = self.at - back
        return self.indicators.outputs(indicator, output or indicator.partition(":")[0])[place] if place >= 0 else nan

    def bar(self, column: str, back: int = 0) -> float:
        """A column of the candle so many before."""
        place = self.at - back
        return self.indicators.bar_values(column)[place] if place >= 0 else nan

    def previous(self, back: int = 1) -> "CandleView":
        """The same as of a candle so many before."""
        return CandleView(self.indicators, self.at - back)

    def levels(self, indicator: str) -> list[PriceLevel]:
        """The levels of an indicator."""
        return self.indicators.levels(indicator, self.at) if self.at >= 0 else []

    def atr(self) -> float:
        """The mean true range; NaN where there is none."""
        return self.indicators.atrs[self.at] if self.at >= 0 else nan

    def atr_or_step(self, back: int = 0) -> float:
        """What differences are measured in: the mean true range so many candles before, or one step where it is less.
        NaN where there is none.
        """
        place = self.at - back
        return max(self.indicators.atrs[place], self.indicators.price_steps[place]) if place >= 0 else nan

    def recent_range(self) -> float:
        """From the lowest low to the highest high of the last `MOVED` candles."""
        columns, span = self.indicators.columns, slice(max(0, self.at - RANGE_CANDLES + 1), self.at + 1)
        return float(columns.high[span].max() - columns.low[span].min())

    def sign(self, difference: float) -> float:
        """1, 0 or -1: whether one price is above, at or below another. NaN stays."""
        if abs(difference) <= max(
            EQUALITY_TOLERANCE * abs(self.bar("close")), NOISE_STEPS * self.indicators.price_steps[self.at]
        ):
            return 0.0
        return difference / abs(difference)

    def capped_by_range(self, difference: float) -> float:
        """A difference of exponential averages, but no more than the last candles' range gives reason for: they still
        move when the price has long stopped. NaN stays.
        """
        most = self.recent_range() / REAL_MOVE_ATRS
        return max(-most, min(most, difference)) if not isnan(difference) else difference

    def in_atrs(self, difference: float, full_atrs: float) -> float:
        """From -1 to 1: a difference of prices in units of `full` mean true ranges. NaN stays."""
        leaning = difference / (full_atrs * self.atr_or_step())
        return max(-1.0, min(1.0, leaning)) if not isnan(leaning) else leaning
