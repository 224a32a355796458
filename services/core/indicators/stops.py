"""Parabolic stops: a line that follows the trend until the price crosses it."""

import numpy as np

from services.core.indicators.catalog import factor, indicator
from services.core.indicators.columns import Floats, OhlcvColumns
from services.core.indicators.lookback import PATH_WARMUP_CANDLES, PathDependentLookback
from services.core.indicators.talib_import import talib

STEP, MAXIMUM = factor(0.02, "step", 0.005, 0.5), factor(0.2, "most", 0.05, 1)


def _warmup_candles(_: float, most: float) -> int:
    return PATH_WARMUP_CANDLES + int(100 / most)


def _trend_side(columns: OhlcvColumns, outputs: tuple[Floats, ...]) -> Floats:
    side: Floats = columns.high + columns.low - 2 * outputs[0]
    return side


@indicator(
    "Parabolic SAR",
    STEP,
    MAXIMUM,
    outputs=("psar",),
    overlay=True,
    source="Kurs",
    lookback=PathDependentLookback(_warmup_candles, _trend_side, exact=True),
)
def psar(columns: OhlcvColumns, step: float, most: float) -> Floats:
    """TradingView's `ta.sar(step, step, most)`. With each candle the stop moves towards the trend's extreme by a share
    of the distance: by `step`, and by one `step` more after each new extreme, up to `most`. When the low is below a
    rising stop (the high above a falling one) the trend turns: the stop becomes the extreme, this candle's included,
    and the share becomes `step`. After that the stop is moved out of the range of the two previous candles. The second
    candle begins the first trend: a rise from the first low if its close is above the first close, otherwise a fall
    from the first high.
    """
    stops = _stops(columns, step, most) if len(columns.open_times) > 1 else []
    return np.array([np.nan] * (len(columns.open_times) - len(stops)) + stops, np.float64)


@indicator(
    "Parabolic SAR of TA-Lib",
    STEP,
    MAXIMUM,
    outputs=("sar",),
    overlay=True,
    source="TA-Lib SAR",
    lookback=PathDependentLookback(_warmup_candles, _trend_side),
)
def sar(columns: OhlcvColumns, step: float, most: float) -> Floats:
    """As `psar`, with three differences: the stop is moved out of the range of the two previous candles before it is
    compared with the price, a touch turns the trend too, and the first trend follows the directional movement.
    """
    if len(columns.open_times) < 2:
        return np.full(len(columns.open_times), np.nan)
    return talib.SAR(columns.high, columns.low, float(step), float(most))


def _stops(columns: OhlcvColumns, step: float, most: float) -> list[float]:
    """Return the stop at each candle but the first. The second one has one previous candle, the others have two."""
    high, low, (first, second) = columns.high, columns.low, columns.close[:2].tolist()
    floors = np.minimum(low[:-1], np.append(low[:1], low[:-2])).tolist()
    ceilings = np.maximum(high[:-1], np.append(high[:1], high[:-2])).tolist()
    rising, share, stops = second > first, step, list[float]()
    stop, extreme = (float(low[0]), float(high[1])) if rising else (float(high[0]), float(low[1]))
    for top, bottom, floor, ceiling in zip(high[1:].tolist(), low[1:].tolist(), floors, ceilings, strict=True):
        stop += share * (extreme - stop)
        if (stop > bottom) if rising else (stop < top):
            stop = max(top, extreme) if rising else min(bottom, extreme)
            rising, share, extreme = not rising, step, bottom if rising else top
        elif (top > extreme) if rising else (bottom < extreme):
            extreme, share = top if rising else bottom, min(share + step, most)
        if rising and stop > floor:
            stop = floor
        elif not rising and stop < ceiling:
            stop = ceiling
        stops.append(stop)
    return stops
