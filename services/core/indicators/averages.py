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
    """Each close has the weight 2 / (period + 1), the previous average the rest. The first value is the mean of the
    first `period` closes.
    """
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
    """The mean of the last `period` closes, with weights from `period` for the newest down to 1 for the oldest."""
    return talib.WMA(columns.close, period)
