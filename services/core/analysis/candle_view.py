"""Closed candles as the rules see them: each indicator is computed once, and read at one candle and those before it."""

from collections.abc import Mapping
from functools import cached_property
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from services.core.indicators import OhlcvColumns, PriceLevel, compute, compute_levels, parse_specs
from services.core.timeframes import Timeframe

SIGNIFICANT_DIGITS = 10  # of prices in an analysis: the next ones are rounding errors
EQUALITY_TOLERANCE = 1e-9  # of the close
NOISE_STEPS = 1e-3  # price steps: below any difference of means of prices, above rounding errors
ANALYSED_CANDLES = 200
RANGE_CANDLES = 50  # the longest window of the rules of the trend
REAL_MOVE_ATRS = 4  # a range of `RANGE_CANDLES` candles from which on a movement counts in full
MAX_DECIMALS = 14  # of a price; more are rounding errors


def round_significant(number: float) -> float:
    """Return a number with the digits that an analysis has."""
    return float(f"{number:.{SIGNIFICANT_DIGITS}g}") + 0.0  # no -0


class IndicatorView:
    """Closed candles with their indicators. `daily` are candles of 1d, where price levels are made of these."""

    def __init__(self, columns: OhlcvColumns, timeframe: Timeframe, daily: OhlcvColumns | None = None) -> None:
        self.columns, self.timeframe, self.daily = columns, timeframe, daily
        self._outputs: dict[str, Mapping[str, list[float]]] = {}
        self._levels: dict[tuple[str, int], list[PriceLevel]] = {}
        self._bar_values: dict[str, list[float]] = {
            name: column.tolist() for name, column in zip(columns._fields, columns, strict=True)
        }

    def outputs(self, indicator: str, output: str) -> list[float]:
        """Return one output of an indicator (`rsi`, `sma:50`) at every candle, NaN where there is none."""
        if indicator not in self._outputs:
            columns = compute(parse_specs(indicator)[0], self.columns, self.timeframe)
            self._outputs[indicator] = {name: values.tolist() for name, values in columns.items()}
        return self._outputs[indicator][output]

    def bar_values(self, column: str) -> list[float]:
        """Return `open`, `high`, `low`, `close` or `volume` of every candle."""
        return self._bar_values[column]

    @cached_property
    def price_steps(self) -> list[float]:
        """At every candle one unit of the last decimal that any price of the last `ANALYSED_CANDLES` has."""
        prices, decimals = np.stack(self.columns[1:5]), np.zeros(len(self.columns.open_times), np.int64)
        for count in range(MAX_DECIMALS):
            decimals += (np.round(prices, count) != prices).any(axis=0) & (decimals == count)
        if len(decimals):
            padded = np.concatenate([np.zeros(ANALYSED_CANDLES - 1, np.int64), decimals])
            decimals = np.lib.stride_tricks.sliding_window_view(padded, ANALYSED_CANDLES).max(axis=1)
        return [float(f"1e-{count}") for count in decimals.tolist()]

    @cached_property
    def atrs(self) -> list[float]:
        """The mean true range at every candle, 0 where it is below `NOISE_STEPS`, NaN where there is none."""
        atr = self.outputs("atr", "atr")
        return [0.0 if each < NOISE_STEPS * step else each for each, step in zip(atr, self.price_steps, strict=True)]

    @cached_property
    def atr_percents(self) -> list[float]:
        """The mean true range at every candle in percent of its close."""
        pairs = zip(self.atrs, self._bar_values["close"], strict=True)
        return [100 * atr / close if close else nan for atr, close in pairs]

    def levels(self, indicator: str, index: int) -> list[PriceLevel]:
        """Return the price levels of an indicator as of one candle."""
        key = indicator, index
        if key not in self._levels:
            until = self.columns.slice(0, index + 1)
            self._levels[key] = compute_levels(parse_specs(indicator)[0], until, self.timeframe, self.daily)
        return self._levels[key]


class CandleView(NamedTuple):
    """The indicators as of the candle at one index. Before the first candle everything is NaN."""

    indicators: IndicatorView
    candle_index: int

    def value(self, indicator: str, output: str = "", back: int = 0) -> float:
        """Return an output of an indicator `back` candles before. The default is the output named as the indicator."""
        index = self.candle_index - back
        return self.indicators.outputs(indicator, output or indicator.partition(":")[0])[index] if index >= 0 else nan

    def bar(self, column: str, back: int = 0) -> float:
        """Return a column of the candle `back` candles before."""
        index = self.candle_index - back
        return self.indicators.bar_values(column)[index] if index >= 0 else nan

    def previous(self, back: int = 1) -> "CandleView":
        """Return the view as of the candle `back` candles before."""
        return CandleView(self.indicators, self.candle_index - back)

    def levels(self, indicator: str) -> list[PriceLevel]:
        """Return the price levels of an indicator."""
        return self.indicators.levels(indicator, self.candle_index) if self.candle_index >= 0 else []

    def atr(self) -> float:
        """Return the mean true range, NaN where there is none."""
        return self.indicators.atrs[self.candle_index] if self.candle_index >= 0 else nan

    def atr_or_step(self, back: int = 0) -> float:
        """Return the unit of differences: the mean true range `back` candles before, but at least one price step."""
        index = self.candle_index - back
        return max(self.indicators.atrs[index], self.indicators.price_steps[index]) if index >= 0 else nan

    def recent_range(self) -> float:
        """Return the range of the last `RANGE_CANDLES` candles."""
        columns, until = self.indicators.columns, self.candle_index + 1
        span = slice(max(0, until - RANGE_CANDLES), until)
        return float(columns.high[span].max() - columns.low[span].min())

    def sign(self, difference: float) -> float:
        """Return 1, 0 or -1 for a difference of prices, 0 if it is only noise, NaN for NaN."""
        noise = max(EQUALITY_TOLERANCE * abs(self.bar("close")), NOISE_STEPS * self.price_step)
        return 0.0 if abs(difference) <= noise else difference / abs(difference)

    @property
    def price_step(self) -> float:
        """One unit of the last decimal of recent prices."""
        return self.indicators.price_steps[self.candle_index]

    def capped_by_range(self, difference: float) -> float:
        """Return a difference of exponential averages, at most a `REAL_MOVE_ATRS`th of the recent range. Averages still
        move long after the price has stopped. NaN for NaN.
        """
        limit = self.recent_range() / REAL_MOVE_ATRS
        return max(-limit, min(limit, difference)) if not isnan(difference) else difference

    def in_atrs(self, difference: float, full_atrs: float) -> float:
        """Return a difference of prices in units of `full_atrs` mean true ranges, from -1 to 1. NaN for NaN."""
        ratio = difference / (full_atrs * self.atr_or_step())
        return max(-1.0, min(1.0, ratio)) if not isnan(ratio) else ratio
