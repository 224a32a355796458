"""Momentum: the strength and the extent of a movement."""

from itertools import pairwise

import numpy as np

from services.core.indicators.catalog import indicator, period
from services.core.indicators.columns import Bools, Floats, OhlcvColumns
from services.core.indicators.lookback import FixedLookback, smoothed, wilder, windowed
from services.core.indicators.talib_import import MA_SIMPLE, talib


@indicator(
    "Relative Strength Index",
    period(14),
    outputs=("rsi",),
    source="TA-Lib RSI",
    lookback=FixedLookback(lambda period: wilder(period) + 1),
)
def rsi(columns: OhlcvColumns, period: int) -> Floats:
    """100 - 100 / (1 + average rise / average fall), with Wilder's averages of the changes of the close. No value where
    the close has not changed for so many candles that the last change has no weight.
    """
    values, close, span = talib.RSI(columns.close, period), columns.close, wilder(period)
    samples = close[:: span // 2].tolist()  # any `span` candles contain two of them
    if len(close) <= period or (close[0] != close[period] and not any(a == b for a, b in pairwise(samples))):
        return values
    return np.where(_no_movement_mask(np.diff(close, prepend=close[:1]) != 0, span), np.nan, values)


@indicator(
    "Moving Average Convergence Divergence",
    period(12, "fast"),
    period(26, "slow"),
    period(9, "signal"),
    outputs=("macd", "signal", "histogram"),
    source="TA-Lib MACD",
    lookback=FixedLookback(lambda _, slow, signal: smoothed(slow) + smoothed(signal)),
    ascending=True,
)
def macd(columns: OhlcvColumns, fast: int, slow: int, signal: int) -> tuple[Floats, ...]:
    """The fast exponential average of the close minus the slow one; its exponential average; the difference of both."""
    return talib.MACD(columns.close, fast, slow, signal)


@indicator(
    "Stochastic",
    period(14),
    period(3, "d", 1),
    period(1, "smooth", 1),
    outputs=("k", "d"),
    source="TA-Lib STOCH",
    lookback=FixedLookback(lambda period, d, smooth: period + d + smooth - 3),
)
def stoch(columns: OhlcvColumns, period: int, d: int, smooth: int) -> tuple[Floats, ...]:
    """%K: the position of the close in the range of the last `period` candles, 0 to 100, averaged over `smooth`. %D:
    the mean of the last `d` values of %K. No value where there is no range.
    """
    lines = talib.STOCH(columns.high, columns.low, columns.close, period, smooth, MA_SIMPLE, d, MA_SIMPLE)
    if (no_range := _no_range_mask(columns, period)) is None:
        return lines
    return _blank_near(lines[0], no_range, smooth), _blank_near(lines[1], no_range, smooth + d - 1)


@indicator(
    "Williams %R",
    period(14),
    outputs=("willr",),
    source="TA-Lib WILLR",
    lookback=FixedLookback(windowed),
)
def willr(columns: OhlcvColumns, period: int) -> Floats:
    """The distance of the close from the highest high of the last `period` candles, in percent of their range: -100 to
    0. No value where there is no range.
    """
    values = talib.WILLR(columns.high, columns.low, columns.close, period)
    return values if (no_range := _no_range_mask(columns, period)) is None else _blank_near(values, no_range, 1)


@indicator(
    "Commodity Channel Index",
    period(20),
    outputs=("cci",),
    source="TA-Lib CCI",
    lookback=FixedLookback(windowed),
)
def cci(columns: OhlcvColumns, period: int) -> Floats:
    """The distance of (high + low + close) / 3 from its mean, in units of 0.015 mean deviations. No value where that
    price has not changed within `period` candles.
    """
    values = talib.CCI(columns.high, columns.low, columns.close, period)
    return _blank_where_constant(values, columns.high + columns.low + columns.close, period)


@indicator(
    "Average Directional Index",
    period(14),
    outputs=("adx", "plus_di", "minus_di"),
    source="TA-Lib ADX, PLUS_DI, MINUS_DI",
    lookback=FixedLookback(lambda period: 2 * wilder(period)),
)
def adx(columns: OhlcvColumns, period: int) -> tuple[Floats, ...]:
    """Wilder's average of 100 |+DI - -DI| / (+DI + -DI). +DI and -DI: the movement beyond the previous high and low, in
    percent of the true range, all as Wilder's averages. No value where there has been no range for so many candles that
    the last one has no weight. After that ADX begins again.
    """
    prices = columns.high, columns.low, columns.close
    outputs = talib.ADX(*prices, period), talib.PLUS_DI(*prices, period), talib.MINUS_DI(*prices, period)
    ranges = talib.TRANGE(*prices)
    ranges[:1] = columns.high[:1] - columns.low[:1]
    if ranges.all():
        return outputs
    no_range = _no_movement_mask(ranges > 0, wilder(period))
    for start in np.flatnonzero(no_range[:-1] & ~no_range[1:]):
        outputs[0][start:] = talib.ADX(columns.high[start:], columns.low[start:], columns.close[start:], period)
    return tuple(np.where(no_range, np.nan, values) for values in outputs)


@indicator(
    "Aroon",
    period(14),
    outputs=("up", "down"),
    source="TA-Lib AROON",
    lookback=FixedLookback(int),
)
def aroon(columns: OhlcvColumns, period: int) -> tuple[Floats, ...]:
    """100 if the newest of the last `period` + 1 candles has the highest high (lowest low), 0 if the oldest has it. No
    value where all of their highs (lows) are equal.
    """
    down, up = talib.AROON(columns.high, columns.low, period)
    return _blank_where_constant(up, columns.high, period + 1), _blank_where_constant(down, columns.low, period + 1)


@indicator(
    "Average True Range",
    period(14),
    outputs=("atr",),
    source="TA-Lib ATR",
    lookback=FixedLookback(lambda period: wilder(period) + 1),
)
def atr(columns: OhlcvColumns, period: int) -> Floats:
    """Wilder's average of the true range: from the lower of previous close and low to the higher of previous close and
    high.
    """
    return talib.ATR(columns.high, columns.low, columns.close, period)


@indicator(
    "Rate of Change",
    period(9, minimum=1),
    outputs=("roc",),
    source="TA-Lib ROC",
    lookback=FixedLookback(int),
)
def roc(columns: OhlcvColumns, period: int) -> Floats:
    """The change of the close within `period` candles, in percent."""
    return talib.ROC(columns.close, period)


def _no_range_mask(columns: OhlcvColumns, period: int) -> Bools | None:
    """Return where the last `period` candles have no range, or None if that is nowhere."""
    if not (columns.high == columns.low).any():
        return None
    no_range: Bools = talib.MAX(columns.high, period) == talib.MIN(columns.low, period)
    return no_range


def _blank_where_constant(values: Floats, reference: Floats, period: int) -> Floats:
    """Return the values, NaN where the last `period` values of another column are all equal."""
    if len(reference) < period or (np.diff(reference) != 0).all():
        return values
    return np.where(talib.MAX(reference, period) == talib.MIN(reference, period), np.nan, values)


def _no_movement_mask(moved: Bools, span: int) -> Bools:
    """Return where nothing has moved within the last `span` candles, nor since the first one."""
    indices = np.arange(len(moved))
    last_moved = np.maximum.accumulate(np.where(moved, indices, -span))
    no_movement: Bools = indices - last_moved >= span
    return no_movement


def _blank_near(values: Floats, excluded: Bools, count: int) -> Floats:
    """Return the values, NaN where one of the last `count` candles is excluded."""
    near = np.convolve(excluded, np.ones(count))[: len(excluded)] > 0
    return np.where(near, np.nan, values)
