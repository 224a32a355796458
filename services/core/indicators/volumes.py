"""What was traded, and at which prices."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from services.core.indicators.catalog import Level, indicator, period
from services.core.indicators.columns import Columns, Floats
from services.core.indicators.lookback import (
    ALWAYS,
    DAILY,
    MONTHLY,
    WEEKLY,
    YEARLY,
    Anchored,
    Bars,
    Period,
    shorter,
    windowed,
)
from services.core.indicators.talib_import import talib
from services.core.timeframes import Timeframe

HOUR, DAY = 60, 1440  # minutes
VALUE_AREA = 0.7  # of the volume


def _count(timeframe: Timeframe) -> Period:
    if not shorter(timeframe, DAY):
        return ALWAYS
    return WEEKLY if shorter(timeframe, 5) else MONTHLY if shorter(timeframe, HOUR) else YEARLY


def _session(timeframe: Timeframe) -> Period:
    return DAILY if shorter(timeframe, DAY) else YEARLY


@indicator(
    "Volume",
    period(20),
    outputs=("volume", "average"),
    source="TA-Lib SMA",
    memory=Bars(windowed),
)
def volume(columns: Columns, period: int) -> tuple[Floats, ...]:
    """What was traded, in units of the base; the mean of the last `period`."""
    return columns.volume, np.maximum(talib.SMA(columns.volume, period), 0)  # a sum of nothing may be a little less


@indicator(
    "On-Balance Volume",
    outputs=("obv",),
    source="TA-Lib OBV",
    memory=Anchored(_count),
)
def obv(columns: Columns, timeframe: Timeframe) -> Floats:
    """The volume of each candle whose close rose, less that of each whose close fell. Only differences mean anything:
    it begins at 0 with the UTC week for 1m and 3m, with the month up to 30m, with the year up to 12h, else with the
    first candle that is kept.
    """

    def count(part: Columns) -> Floats:
        counted: Floats = talib.OBV(part.close, part.volume) - part.volume[0]
        return counted

    return _by_period(columns, _count(timeframe), count)


@indicator(
    "Volume Weighted Average Price",
    outputs=("vwap",),
    overlay=True,
    source="TA-Lib VWAP",
    memory=Anchored(_session),
)
def vwap(columns: Columns, timeframe: Timeframe) -> Floats:
    """The mean of (high + low + close) / 3 weighted by volume, since the UTC day began; for 1d and longer since the
    year did. No value before anything was traded.
    """

    def mean(part: Columns) -> Floats:
        traded = np.logical_or.accumulate(part.volume > 0)
        return np.where(traded, talib.VWAP(part.high, part.low, part.close, part.volume), np.nan)

    return _by_period(columns, _session(timeframe), mean)


@indicator(
    "Money Flow Index",
    period(14),
    outputs=("mfi",),
    source="TA-Lib MFI",
    memory=Bars(int),
)
def mfi(columns: Columns, period: int) -> Floats:
    """The share, in percent, of the last `period` candles' (high + low + close) / 3 times volume in which that price
    rose, of that in which it rose or fell. No value where there is neither.
    """
    flow = talib.MFI(columns.high, columns.low, columns.close, columns.volume, period)
    price = columns.high + columns.low + columns.close
    moved = np.where(np.diff(price, prepend=price[:1]) != 0, columns.volume, 0.0)
    return np.where(talib.MAX(moved, period) > 0, flow, np.nan) if len(price) >= period else flow


@indicator(
    "Volume Profile",
    period(200, "bars"),
    period(24, "rows", 2, 200),
    overlay=True,
    source="Kurs",
    memory=Bars(lambda bars, _: windowed(bars)),
)
def vp(columns: Columns, bars: int, rows: int) -> list[Level]:
    """The last `bars` candles' range in `rows` rows of equal height; each candle's volume is spread evenly over its own
    range. `poc` is the middle of the row with the most; from it rows are added, the fuller neighbour first, until 70 %
    of the volume lie between `value_area_low` and `value_area_high`.
    """
    last = columns.between(max(0, len(columns.time) - bars), len(columns.time))
    floor, top = float(last.low.min()), float(last.high.max())
    if not last.volume.any() or floor == top:
        return []
    edges = np.linspace(floor, top, rows + 1)
    held = _spread(last, edges)
    low, high = _value_area(held)
    poc = int(held.argmax())
    found = [
        Level("poc", float(edges[poc] + edges[poc + 1]) / 2, {"volume": float(held[poc])}),
        Level("value_area_high", float(edges[high + 1]), {}),
        Level("value_area_low", float(edges[low]), {}),
    ]
    middles = (edges[1:] + edges[:-1]) / 2
    return found + [
        Level("row", float(middle), {"volume": float(volume), "low": float(bottom), "high": float(top)})
        for middle, volume, bottom, top in zip(middles, held, edges[:-1], edges[1:], strict=True)
    ]


def _spread(columns: Columns, edges: Floats) -> Floats:
    """The volume in each row."""
    low, high = columns.low[:, None], columns.high[:, None]
    inside = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None)
    flat = columns.high == columns.low
    row = np.clip(np.searchsorted(edges, columns.low[flat], "right") - 1, 0, len(edges) - 2)
    inside[np.flatnonzero(flat), row] = 1
    held: Floats = columns.volume @ (inside / inside.sum(axis=1, keepdims=True))
    return held


def _value_area(held: Floats) -> tuple[int, int]:
    """The first and last row around the fullest that hold most of the volume."""
    low = high = int(held.argmax())
    while held[low : high + 1].sum() < VALUE_AREA * held.sum() and high - low + 1 < len(held):
        above = held[high + 1] if high + 1 < len(held) else -1
        below = held[low - 1] if low else -1
        low, high = (low, high + 1) if above >= below else (low - 1, high)
    return low, high


def _by_period(columns: Columns, period: Period, run: Callable[[Columns], Floats]) -> Floats:
    """What `run` says of the candles of each period by themselves, one after the other."""
    if period.since(int(columns.time[-1])) <= columns.time[0]:
        return run(columns)
    starts = [0, *(np.flatnonzero(np.diff(period.number(columns.time))) + 1).tolist(), len(columns.time)]
    return np.concatenate([run(columns.between(*span)) for span in pairwise(starts)])
