"""How strong a movement is, and how far it has gone."""

import numpy as np

from services.core.indicators.catalog import indicator, period
from services.core.indicators.columns import Bools, Columns, Floats
from services.core.indicators.library import SIMPLE, talib
from services.core.indicators.memory import Bars, smoothed, wilder, windowed


@indicator(
    "Relative Strength Index",
    period(14),
    outputs=("rsi",),
    source="TA-Lib RSI",
    memory=Bars(lambda period: wilder(period) + 1),
)
def rsi(columns: Columns, period: int) -> Floats:
    """100 - 100 / (1 + average rise / average fall), Wilder's averages of the changes of the close. No value where the
    close has not changed for so long that nothing is left of the last change.
    """
    span = wilder(period) + 1
    still = talib.MAX(columns.close, span) == talib.MIN(columns.close, span)
    return np.where(still, np.nan, talib.RSI(columns.close, period))


@indicator(
    "Moving Average Convergence Divergence",
    period(12, "fast"),
    period(26, "slow"),
    period(9, "signal"),
    outputs=("macd", "signal", "histogram"),
    source="TA-Lib MACD",
    memory=Bars(lambda _, slow, signal: smoothed(slow) + smoothed(signal)),
    ascending=True,
)
def macd(columns: Columns, fast: int, slow: int, signal: int) -> tuple[Floats, ...]:
    """The fast exponential average of the close less the slow one; an exponential average of it; their difference."""
    return talib.MACD(columns.close, fast, slow, signal)


@indicator(
    "Stochastic",
    period(14),
    period(3, "d", 1),
    period(1, "smooth", 1),
    outputs=("k", "d"),
    source="TA-Lib STOCH",
    memory=Bars(lambda period, d, smooth: period + d + smooth - 3),
)
def stoch(columns: Columns, period: int, d: int, smooth: int) -> tuple[Floats, ...]:
    """%K: where the close is in the range of the last `period` candles, 0 to 100, averaged over `smooth`. %D: the mean
    of the last `d` of it. No value where there is no range.
    """
    still = _still(columns, period)
    lines = talib.STOCH(columns.high, columns.low, columns.close, period, smooth, SIMPLE, d, SIMPLE)
    return _without(lines[0], still, smooth), _without(lines[1], still, smooth + d - 1)


@indicator(
    "Williams %R",
    period(14),
    outputs=("willr",),
    source="TA-Lib WILLR",
    memory=Bars(windowed),
)
def willr(columns: Columns, period: int) -> Floats:
    """How far the close is below the highest high of the last `period` candles, in percent of their range: -100 to 0.
    No value where there is no range.
    """
    return _without(talib.WILLR(columns.high, columns.low, columns.close, period), _still(columns, period), 1)


@indicator(
    "Commodity Channel Index",
    period(20),
    outputs=("cci",),
    source="TA-Lib CCI",
    memory=Bars(windowed),
)
def cci(columns: Columns, period: int) -> Floats:
    """How far (high + low + close) / 3 is from its mean, in units of 0.015 mean deviations; 0 if there is none."""
    return talib.CCI(columns.high, columns.low, columns.close, period)


@indicator(
    "Average Directional Index",
    period(14),
    outputs=("adx", "plus_di", "minus_di"),
    source="TA-Lib ADX, PLUS_DI, MINUS_DI",
    memory=Bars(lambda period: 2 * wilder(period)),
)
def adx(columns: Columns, period: int) -> tuple[Floats, ...]:
    """Wilder's average of 100 |+DI - -DI| / (+DI + -DI). +DI and -DI: the movement beyond the last high and low, in
    percent of the true range, all in Wilder's averages.
    """
    prices = columns.high, columns.low, columns.close
    return talib.ADX(*prices, period), talib.PLUS_DI(*prices, period), talib.MINUS_DI(*prices, period)


@indicator(
    "Aroon",
    period(14),
    outputs=("up", "down"),
    source="TA-Lib AROON",
    memory=Bars(int),
)
def aroon(columns: Columns, period: int) -> tuple[Floats, ...]:
    """100 when the highest high (lowest low) of the last `period` + 1 candles is the newest, 0 when the oldest."""
    down, up = talib.AROON(columns.high, columns.low, period)
    return up, down


@indicator(
    "Average True Range",
    period(14),
    outputs=("atr",),
    source="TA-Lib ATR",
    memory=Bars(lambda period: wilder(period) + 1),
)
def atr(columns: Columns, period: int) -> Floats:
    """Wilder's average of the true range: from the last close or the low, to the last close or the high."""
    return talib.ATR(columns.high, columns.low, columns.close, period)


@indicator(
    "Rate of Change",
    period(9, least=1),
    outputs=("roc",),
    source="TA-Lib ROC",
    memory=Bars(int),
)
def roc(columns: Columns, period: int) -> Floats:
    """The close's change since `period` candles ago, in percent."""
    return talib.ROC(columns.close, period)


def _still(columns: Columns, period: int) -> Bools:
    """Where the last `period` candles have no range."""
    still: Bools = talib.MAX(columns.high, period) == talib.MIN(columns.low, period)
    return still


def _without(values: Floats, out: Bools, count: int) -> Floats:
    """The values but those that one of the last `count` places is out of."""
    if not out.any():
        return values
    near: Bools = np.convolve(out, np.ones(count))[: len(out)] > 0
    return np.where(near, np.nan, values)
