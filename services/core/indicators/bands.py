"""Bands and lines around the price."""

from collections.abc import Mapping

import numpy as np

from services.core.indicators.catalog import factor, indicator, period
from services.core.indicators.columns import Floats, OhlcvColumns
from services.core.indicators.lookback import (
    PATH_WARMUP_CANDLES,
    FixedLookback,
    PathDependentLookback,
    smoothed,
    wilder,
    windowed,
)
from services.core.indicators.talib_import import talib


@indicator(
    "Bollinger Bands",
    period(20),
    factor(2),
    outputs=("upper", "middle", "lower"),
    overlay=True,
    source="TA-Lib BBANDS",
    lookback=FixedLookback(lambda period, _: windowed(period)),
)
def bbands(columns: OhlcvColumns, period: int, factor: float) -> tuple[Floats, ...]:
    """The mean of the last `period` closes, and `factor` population standard deviations above and below."""
    return talib.BBANDS(columns.close, period, float(factor), float(factor))


@indicator(
    "Keltner Channels",
    period(20),
    factor(2),
    period(10, "atr"),
    outputs=("upper", "middle", "lower"),
    overlay=True,
    source="TA-Lib EMA, ATR",
    lookback=FixedLookback(lambda period, _, atr: max(smoothed(period), wilder(atr) + 1)),
)
def keltner(columns: OhlcvColumns, period: int, factor: float, atr: int) -> tuple[Floats, ...]:
    """The exponential average of the close, and `factor` times the average true range above and below."""
    middle = talib.EMA(columns.close, period)
    reach = factor * talib.ATR(columns.high, columns.low, columns.close, atr)
    return middle + reach, middle, middle - reach


@indicator(
    "Donchian Channels",
    period(20),
    outputs=("upper", "middle", "lower"),
    overlay=True,
    source="TA-Lib DONCHIAN",
    lookback=FixedLookback(windowed),
)
def donchian(columns: OhlcvColumns, period: int) -> tuple[Floats, ...]:
    """The highest high and the lowest low of the last `period` candles, this one included, and their middle."""
    return talib.DONCHIAN(columns.high, columns.low, period)


def _midprices(columns: OhlcvColumns, *periods: int) -> list[Floats]:
    return [talib.MIDPRICE(columns.high, columns.low, period) for period in periods]


def _future_spans(
    columns: OhlcvColumns, conversion: int, standard: int, span: int, displacement: int
) -> Mapping[str, Floats]:
    """Return the leading spans of the last candles, which are drawn after them."""
    short, middle, long = _midprices(columns, conversion, standard, span)
    shift, count = displacement - 1, len(columns.open_times)
    spans = np.full((2, max(shift, count)), np.nan)
    spans[0, -count:], spans[1, -count:] = (short + middle) / 2, long
    return {name: values[len(values) - shift :] for name, values in zip(("leading_a", "leading_b"), spans, strict=True)}


@indicator(
    "Ichimoku Cloud",
    period(9, "conversion"),
    period(26, "standard"),
    period(52, "span"),
    period(26, "displacement"),
    outputs=("conversion", "standard", "leading_a", "leading_b", "lagging"),
    overlay=True,
    source="TA-Lib MIDPRICE",
    lookback=FixedLookback(
        lambda conversion, standard, span, displacement: max(conversion, standard, span) + displacement - 2
    ),
    lookahead=lambda *parameters: parameters[3] - 1,
    future=_future_spans,
)
def ichimoku(columns: OhlcvColumns, conversion: int, standard: int, span: int, displacement: int) -> tuple[Floats, ...]:
    """`conversion` and `standard` are the middles between the highest high and the lowest low of as many candles. The
    leading spans (the mean of these two lines; the middle of `span` candles) are drawn `displacement` - 1 candles later
    than the candles that they are made of, the lagging close as many earlier: as in TradingView, the candle itself
    counts. The newest candles have no lagging close yet. With `future=true` the response has the spans after the last
    candle.
    """
    short, middle, long = _midprices(columns, conversion, standard, span)
    shift, count = displacement - 1, len(columns.open_times)
    shifted = np.full((3, count + shift), np.nan)
    shifted[0, shift:], shifted[1, shift:], shifted[2, :count] = (short + middle) / 2, long, columns.close
    return short, middle, shifted[0, :count], shifted[1, :count], shifted[2, shift:]


@indicator(
    "Supertrend",
    period(10),
    factor(3),
    outputs=("supertrend", "direction"),
    overlay=True,
    source="TA-Lib SUPERTREND",
    lookback=PathDependentLookback(
        lambda period, _: wilder(period) + PATH_WARMUP_CANDLES, lambda _, outputs: outputs[1]
    ),
)
def supertrend(columns: OhlcvColumns, period: int, factor: float) -> tuple[Floats, ...]:
    """The line is `factor` average true ranges below the middle of high and low while the trend is up (1), and above it
    while the trend is down (-1). It never moves against the trend. The trend turns when the close crosses the line.
    """
    line, direction = talib.SUPERTREND(columns.high, columns.low, columns.close, period, float(factor))
    return line, np.where(np.isnan(line), np.nan, direction)
