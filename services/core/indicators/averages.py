"""Moving averages of the close."""

from services.core.indicators.catalog import indicator, period
from services.core.indicators.columns import Floats, OhlcvColumns
from services.core.indicators.lookback import FixedLookback, smoothed, windowed
from services.core.indicators.talib_import import talib


@indicator(
    "Simple moving average",
    period(20),
    outputs=("sma",),
    overlay=True,
    source="TA-Lib SMA",
    lookback=FixedLookback(windowed),
)
def sma(columns: OhlcvColumns, period: int) -> Floats:
    """The mean of the last `period` closes."""
    return talib.SMA(columns.close, period)


@indicator(
    "Exponential moving average",
    period(20),
    outputs=("ema",),
    overlay=True,
    source="TA-Lib EMA",
    lookback=FixedLookback(smoothed),
)
def ema(columns: OhlcvColumns, period: int) -> Floats:
    """Each close weighs 2 / (period + 1), what was before the rest; it begins with the mean of the first closes."""
    return talib.EMA(columns.close, period)


@indicator(
    "Weighted moving average",
    period(20),
    outputs=("wma",),
    overlay=True,
    source="TA-Lib WMA",
    lookback=FixedLookback(windowed),
)
def wma(columns: OhlcvColumns, period: int) -> Floats:
    """The mean of the last `period` closes, the newest weighing `period`, the oldest 1."""
    return talib.WMA(columns.close, period)
