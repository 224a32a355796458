"""Volume: how much was traded, and at which prices."""

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

HOUR_MINUTES, DAY_MINUTES = 60, 1440
VALUE_AREA_SHARE = 0.7


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
    """The volume in units of the base; the mean of the last `period` volumes."""
    average = np.maximum(talib.SMA(columns.volume, period), 0)  # rounding can make the mean of zeros negative
    return columns.volume, average


@indicator(
    "On-Balance Volume",
    outputs=("obv",),
    source="TA-Lib OBV",
    lookback=AnchoredLookback(_obv_period),
)
def obv(columns: OhlcvColumns, timeframe: Timeframe) -> Floats:
    """The sum of the volumes of candles whose close rose minus those of candles whose close fell. Only differences have
    a meaning: the sum begins at 0 with the UTC week for 1m and 3m, with the month up to 30m, with the year up to 12h,
    otherwise with the first stored candle.
    """

    def count(part: OhlcvColumns) -> Floats:
        sums: Floats = talib.OBV(part.close, part.volume) - part.volume[0]
        return sums

    return _by_period(columns, _obv_period(timeframe), count)


@indicator(
    "Volume Weighted Average Price",
    outputs=("vwap",),
    overlay=True,
    source="TA-Lib VWAP",
    lookback=AnchoredLookback(_vwap_period),
)
def vwap(columns: OhlcvColumns, timeframe: Timeframe) -> Floats:
    """The mean of (high + low + close) / 3 weighted by volume, since the start of the UTC day; for 1d and longer since
    the start of the year. No value before the first trade.
    """

    def mean(part: OhlcvColumns) -> Floats:
        has_traded = np.logical_or.accumulate(part.volume > 0)
        return np.where(has_traded, talib.VWAP(part.high, part.low, part.close, part.volume), np.nan)

    return _by_period(columns, _vwap_period(timeframe), mean)


@indicator(
    "Money Flow Index",
    period(14),
    outputs=("mfi",),
    source="TA-Lib MFI",
    lookback=FixedLookback(int),
)
def mfi(columns: OhlcvColumns, period: int) -> Floats:
    """Money flow is (high + low + close) / 3 times volume. The index is the flow of candles in which that price rose,
    in percent of the flow of those in which it rose or fell, over the last `period` candles. No value where it did
    neither.
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
    """The range of the last `bars` candles is divided into `rows` rows of equal height, and the volume of each candle
    is spread evenly over its own range. `poc` is the middle of the row with the largest volume. From there rows are
    added, the neighbour with the larger volume first, until 70 % of the volume are between `value_area_low` and
    `value_area_high`.
    """
    last = columns.slice(max(0, len(columns.open_times) - bars), len(columns.open_times))
    bottom, top = float(last.low.min()), float(last.high.max())
    if not last.volume.any() or bottom == top:
        return []
    edges = np.linspace(bottom, top, rows + 1)
    volumes = _volume_by_row(last, edges)
    low, high = _value_area(volumes)
    poc = int(volumes.argmax())
    summary = [
        PriceLevel("poc", float(edges[poc] + edges[poc + 1]) / 2, {"volume": float(volumes[poc])}),
        PriceLevel("value_area_high", float(edges[high + 1]), {}),
        PriceLevel("value_area_low", float(edges[low]), {}),
    ]
    middles = (edges[1:] + edges[:-1]) / 2
    return summary + [
        PriceLevel("row", float(middle), {"volume": float(volume), "low": float(lower), "high": float(upper)})
        for middle, volume, lower, upper in zip(middles, volumes, edges[:-1], edges[1:], strict=True)
    ]


def _volume_by_row(columns: OhlcvColumns, edges: Floats) -> Floats:
    low, high = columns.low[:, None], columns.high[:, None]
    inside = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None)
    flat = columns.high == columns.low
    row = np.clip(np.searchsorted(edges, columns.low[flat], "right") - 1, 0, len(edges) - 2)
    inside[np.flatnonzero(flat), row] = 1
    volumes: Floats = columns.volume @ (inside / inside.sum(axis=1, keepdims=True))
    return volumes


def _value_area(volume_by_row: Floats) -> tuple[int, int]:
    """Return the first and last row of the value area."""
    low = high = int(volume_by_row.argmax())
    enough, rows = VALUE_AREA_SHARE * volume_by_row.sum(), len(volume_by_row)
    while volume_by_row[low : high + 1].sum() < enough and high - low + 1 < rows:
        above = volume_by_row[high + 1] if high + 1 < rows else -1
        below = volume_by_row[low - 1] if low else -1
        low, high = (low, high + 1) if above >= below else (low - 1, high)
    return low, high


def _by_period(columns: OhlcvColumns, period: CalendarPeriod, compute: Callable[[OhlcvColumns], Floats]) -> Floats:
    """Compute the candles of each period on their own, and return the values of all."""
    if period.start_of(int(columns.open_times[-1])) <= columns.open_times[0]:
        return compute(columns)
    starts = [0, *(np.flatnonzero(np.diff(period.index_of(columns.open_times))) + 1).tolist(), len(columns.open_times)]
    return np.concatenate([compute(columns.slice(*span)) for span in pairwise(starts)])
