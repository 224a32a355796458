"""Price levels as of the last candle: prices at which a movement stopped or may stop."""

import numpy as np

from services.core.indicators.catalog import PriceLevel, factor, indicator, period
from services.core.indicators.columns import Floats, OhlcvColumns
from services.core.indicators.lookback import (
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
from services.core.timeframes import DAY_MS, MINUTE_MS, TIMEFRAMES, Timeframe

FIBONACCI_PERCENTS = (0, 23.6, 38.2, 50, 61.8, 78.6, 100)


def pivot_period(timeframe: Timeframe) -> CalendarPeriod:
    """Return the calendar period whose candles pivot points are made of."""
    if is_shorter(timeframe, DAY_MS // MINUTE_MS):
        return DAILY if is_shorter(timeframe, 16) else WEEKLY
    return MONTHLY if 0 < timeframe.length < 7 * DAY_MS else YEARLY


def straddles_periods(timeframe: Timeframe) -> bool:
    """Whether candles of this timeframe can lie in two pivot periods: one of 3d in two months, a week in two years."""
    return timeframe.length > DAY_MS


TIMEFRAMES_WITH_DAILY_LEVELS = tuple(name for name, frame in TIMEFRAMES.items() if straddles_periods(frame))


@indicator(
    "Support and Resistance",
    period(200, "bars", 20),
    period(5, "reach", 1, 50),
    factor(0.5, "tolerance", 0.05, 5),
    overlay=True,
    source="Kurs",
    lookback=FixedLookback(lambda bars, *_: windowed(bars)),
)
def sr(columns: OhlcvColumns, bars: int, reach: int, tolerance: float) -> list[PriceLevel]:
    """Turning points among the last `bars` candles: highs above and lows below those of `reach` candles on each side.
    Turning points within `tolerance` mean true ranges of each other form one level, at their mean: `support` below the
    last close, otherwise `resistance`. `strength` (0 to 100) is 100 (1 - 0.5^n), where n is the sum over the touches of
    weights from 0.5 for the oldest candle to 1 for the newest.
    """
    last = columns.slice(max(0, len(columns.open_times) - bars), len(columns.open_times))
    if len(last.open_times) <= 2 * reach:
        return []
    turns = [(index, last.high[index]) for index in _turning_points(last.high, reach)]
    turns += [(index, last.low[index]) for index in _turning_points(-last.low, reach)]
    turns.sort(key=lambda turn: turn[1])
    near = tolerance * float(np.mean(talib.TRANGE(last.high, last.low, last.close)[1:]))
    groups: list[list[tuple[int, float]]] = []
    for index, price in turns:
        if not groups or price - groups[-1][0][1] > near:
            groups.append([])
        groups[-1].append((index, price))
    return [_support_or_resistance(last, group) for group in groups]


@indicator(
    "Fibonacci Retracements",
    period(100, "bars"),
    overlay=True,
    source="Kurs",
    lookback=FixedLookback(windowed),
)
def fib(columns: OhlcvColumns, bars: int) -> list[PriceLevel]:
    """Prices between the highest high and the lowest low of the last `bars` candles, in percent of the way back from
    the later one (0) to the earlier one (100).
    """
    last = columns.slice(max(0, len(columns.open_times) - bars), len(columns.open_times))
    newest = len(last.open_times) - 1
    top, bottom = newest - int(last.high[::-1].argmax()), newest - int(last.low[::-1].argmin())
    high, low = float(last.high[top]), float(last.low[bottom])
    if high == low:
        return []
    rising = top > bottom or (top == bottom and last.close[top] >= last.open[top])
    end, start = (high, low) if rising else (low, high)
    return [
        PriceLevel(f"{ratio:g}", end + (start - end) * ratio / 100, {"ratio": ratio}) for ratio in FIBONACCI_PERCENTS
    ]


@indicator(
    "Classic Pivot Points",
    overlay=True,
    source="Kurs",
    lookback=AnchoredLookback(pivot_period, periods_before=1),
)
def pivots(columns: OhlcvColumns, timeframe: Timeframe, daily: OhlcvColumns | None) -> list[PriceLevel]:
    """From the high, low and close of the previous period: p = (h + l + c) / 3, r1 = 2 p - l, s1 = 2 p - h, r2 = p + h
    - l, s2 = p - h + l, r3 = h + 2 (p - l), s3 = l - 2 (h - p). The period is the UTC day up to 15m, the week up to
    12h, the month for 1d and 3d, the year for 1w and 1M. It is made of the timeframe's own candles. Those of 3d and 1w
    can lie in two periods, so candles of 1d are used instead. No levels if the period's first candle is not stored;
    `missing` is the number of candles missing after it.
    """
    since = pivot_period(timeframe).start_of(int(columns.open_times[-1]))
    begin = pivot_period(timeframe).start_of(since - 1)
    source, frame = (daily, TIMEFRAMES["1d"]) if straddles_periods(timeframe) else (columns, timeframe)
    if source is None:
        return []
    first, end = source.open_times.searchsorted((begin, since)).tolist()
    if first == end or not (first or source.open_times[0] == begin):
        return []
    period, missing = source.slice(first, end), frame.count_between(begin, since - 1) - (end - first)
    high, low, close = float(period.high.max()), float(period.low.min()), float(period.close[-1])
    middle = (high + low + close) / 3
    prices = {
        "r3": high + 2 * (middle - low),
        "r2": middle + high - low,
        "r1": 2 * middle - low,
        "p": middle,
        "s1": 2 * middle - high,
        "s2": middle - high + low,
        "s3": low - 2 * (high - middle),
    }
    details = {"missing": missing} if missing else {}
    return [PriceLevel(name, price, details) for name, price in prices.items()]


def _turning_points(values: Floats, reach: int) -> list[int]:
    """Return the indices of values that are above the `reach` before them and not below the `reach` after them."""
    middle = values[reach : len(values) - reach]
    windows = np.lib.stride_tricks.sliding_window_view(values, reach).max(axis=1)
    before, after = windows[: len(middle)], windows[reach + 1 : reach + 1 + len(middle)]
    indices: list[int] = (np.flatnonzero((middle > before) & (middle >= after)) + reach).tolist()
    return indices


def _support_or_resistance(columns: OhlcvColumns, touches: list[tuple[int, float]]) -> PriceLevel:
    price = float(np.mean([price for _, price in touches]))
    weight = sum(0.5 + 0.5 * index / (len(columns.open_times) - 1) for index, _ in touches)
    times = [int(columns.open_times[index]) for index, _ in touches]
    details = {"touches": len(touches), "strength": 100 * (1 - 0.5**weight), "first": min(times), "last": max(times)}
    return PriceLevel("support" if price < columns.close[-1] else "resistance", price, details)
