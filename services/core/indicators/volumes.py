"""What was traded, and at which prices."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from services.core.indicators.catalog import PriceLevel, indicator, period
from services.core.indicators.columns import Floats, OhlcvColumns
from services.core.indicators.lookback import (
    ALWAYS,
    DAILY,
    MONTHLY,
    WEEKLY,
    YEARLY,
    AnchoredLookback,
    CalendarPeriod,
    FixedLookback,
    is_shorter,
    windowed,
)
from services.core.indicators.talib_import import talib
from services.core.timeframes import Timeframe

HOUR_MINUTES, DAY_MINUTES = 60, 1440  # minutes
VALUE_AREA_SHARE = 0.7  # of the volume


def _obv_period(timeframe: Timeframe) -> CalendarPeriod:
    if not is_shorter(timeframe, DAY_MINUTES):
        return ALWAYS
    return WEEKLY if is_shorter(timeframe, 5) else MONTHLY if is_shorter(timeframe, HOUR_MINUTES) else YEARLY


def _vwap_period(timeframe: Timeframe) -> CalendarPeriod:
    return DAILY if is_shorter(timeframe, DAY_MINUTES) else YEARLY


@indicator(
    "Volume",
    period(20),
    outputs=("volume", "average"),
    source="TA-Lib SMA",
    lookback=FixedLookback(windowed),
)
def volume(columns: OhlcvColumns, period: int) -> tuple[Floats, ...]:
    """What was traded, in units of the base; the mean of the last `period`."""
    return columns.volume, np.maximum(talib.SMA(columns.volume, period), 0)  # a sum of nothing may be a little less


@indicator(
    "On-Balance Volume",
    outputs=("obv",),
    source="TA-Lib OBV",
    lookback=AnchoredLookback(_obv_period),
)
def obv(columns: OhlcvColumns, timeframe: Timeframe) -> Floats:
    """The volume of each candle whose close rose, less that of each whose close fell. Only differences mean anything:
    it begins at 0 with the UTC week for 1m and 3m, with the month up to 30m, with the year up to 12h, else with the
    first candle that is kept.
    """

    def count(part: OhlcvColumns) -> Floats:
        counted: Floats = talib.OBV(part.close, part.volume) - part.volume[0]
        return counted

    return _by_period(columns, _obv_period(timeframe), count)


@indicator(
    "Volume Weighted Average Price",
    outputs=("vwap",),
    overlay=True,
    source="TA-Lib VWAP",
    lookback=AnchoredLookback(_vwap_period),
)
def vwap(columns: OhlcvColumns, timeframe: Timeframe) -> Floats:
    """The mean of (high + low + close) / 3 weighted by volume, since the UTC day began; for 1d and longer since the
    year did. No value before anything was traded.
    """

    def mean(part: OhlcvColumns) -> Floats:
        traded = np.logical_or.accumulate(part.volume > 0)
        return np.where(traded, talib.VWAP(part.high, part.low, part.close, part.volume), np.nan)

    return _by_period(columns, _vwap_period(timeframe), mean)


@indicator(
    "Money Flow Index",
    period(14),
    outputs=("mfi",),
    source="TA-Lib MFI",
    lookback=FixedLookback(int),
)
def mfi(columns: OhlcvColumns, period: int) -> Floats:
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
    lookback=FixedLookback(lambda bars, _: windowed(bars)),
)
def vp(columns: OhlcvColumns, bars: int, rows: int) -> list[PriceLevel]:
    """The last `bars` candles' range in `rows` rows of equal height; each candle's volume is spread evenly over its own
    range. `poc` is the middle of the row with the most; from it rows are added, the fuller neighbour first, until 70 %
    of the volume lie between `value_area_low` and `value_area_high`.
    """
    last = columns.slice(max(0, len(columns.open_times) - bars), len(columns.open_times))
    floor, top = float(last.low.min()), float(last.high.max())
    if not last.volume.any() or floor == top:
        return []
    edges = np.linspace(floor, top, rows + 1)
    held = _volume_by_row(last, edges)
    low, high = _value_area(held)
    poc = int(held.argmax())
    found = [
        PriceLevel("poc", float(edges[poc] + edges[poc + 1]) / 2, {"volume": float(held[poc])}),
        PriceLevel("value_area_high", float(edges[high + 1]), {}),
        PriceLevel("value_area_low", float(edges[low]), {}),
    ]
    middles = (edges[1:] + edges[:-1]) / 2
    return found + [
        PriceLevel("row", float(middle), {"volume": float(volume), "low": float(bottom), "high": float(top)})
        for middle, volume, bottom, top in zip(middles, held, edges[:-1], edges[1:], strict=True)
    ]


def _volume_by_row(columns: OhlcvColumns, edges: Floats) -> Floats:
    """The volume in each row."""
    low, high = columns.low[:, None], columns.high[:, None]
    inside = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None)
    flat = columns.high == columns.low
    row = np.clip(np.searchsorted(edges, columns.low[flat], "right") - 1, 0, len(edges) - 2)
    inside[np.flatnonzero(flat), row] = 1
    held: Floats = columns.volume @ (inside / inside.sum(axis=1, keepdims=True))
    return held


def _value_area(volume_by_row: Floats) -> tuple[int, int]:
    """The first and last row around the fullest that hold most of the volume."""
    low = high = int(volume_by_row.argmax())
    while volume_by_row[low : high + 1].sum() < VALUE_AREA_SHARE * volume_by_row.sum() and high - low + 1 < len(
        volume_by_row
    ):
        above = volume_by_row[high + 1] if high + 1 < len(volume_by_row) else -1
        below = volume_by_row[low - 1] if low else -1
        low, high = (low, high + 1) if above >= below else (low - 1, high)
    return low, high


def _by_period(columns: OhlcvColumns, period: CalendarPeriod, compute: Callable[[OhlcvColumns], Floats]) -> Floats:
    """What `run` says of the candles of each period by themselves, one after the other."""
    if period.start_of(int(columns.open_times[-1])) <= columns.open_times[0]:
        return compute(columns)
    starts = [0, *(np.flatnonzero(np.diff(period.index_of(columns.open_times))) + 1).tolist(), len(columns.open_times)]
    return np.concatenate([compute(columns.slice(*span)) for span in pairwise(starts)])
