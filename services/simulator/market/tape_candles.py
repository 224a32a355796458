"""Candles of a tape: every timeframe with Binance's boundaries, closed and forming, equal to the trades to a digit."""

from functools import lru_cache
from typing import Any

import numpy as np

from services.simulator.market import bar_columns
from services.simulator.market.bar_columns import BarColumns
from services.simulator.market.listings import DAY, HOUR, MINUTE, SECOND
from services.simulator.market.shapes import Ints
from services.simulator.market.tape import Tape

MONTH = 0  # its length varies
ROLLED_DAYS = 256  # that are rolled up together and cached
LENGTHS_MS = {
    "1s": SECOND,
    "1m": MINUTE,
    "3m": 3 * MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "6h": 6 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": 7 * DAY,
    "1M": MONTH,
}
ORIGINS = {
    3 * DAY: DAY,
    7 * DAY: 4 * DAY,
}  # first open time after 1970 began: 2 January, a Monday; others midnight


def opening(length: int, times: Ints, shift: int = 0) -> Ints:
    """Return the open times of the bars that hold `times`. `shift` is the time zone's distance from UTC, in ms."""
    local = times + shift
    if length == MONTH:
        return _ms(local.astype("datetime64[ms]").astype("datetime64[M]")) - shift
    origin = ORIGINS.get(length, 0)
    return (local - origin) // length * length + origin - shift


def closing(length: int, opened: int, shift: int = 0) -> int:
    """Return when the next bar opens."""
    return opened + length if length else int(opening(MONTH, np.array([opened + 32 * DAY]), shift)[0])


def openings(length: int, start: int | None, end: int, limit: int, shift: int = 0) -> Ints:
    """Return open times up to `end`, ascending: the first `limit` from `start` on, or without it the last `limit`."""
    last = int(opening(length, np.array([end]), shift)[0])
    if start is None:
        return last - length * np.arange(limit)[::-1] if length else _months(last, -limit, shift)
    first = int(opening(length, np.array([start]), shift)[0])
    first = first if first >= start else closing(length, first, shift)
    if not length:
        found = _months(first, limit, shift)
        return found[found <= end]
    return np.arange(first, min(last, first + (limit - 1) * length) + 1, length)


def candles(tape: Tape, length: int, opens: Ints, now: int, shift: int = 0) -> BarColumns:
    """Return the bars that open at `opens` (ascending) as of `now`, without those before the first trade."""
    if not len(opens):
        return bar_columns.EMPTY
    start, end = int(opens[0]), closing(length, int(opens[-1]), shift)
    rows = _rows(tape, _grain(tape, length, shift), start, min(end, now + 1))
    before = tape.last_before(start)
    return bar_columns.fill(
        bar_columns.roll(rows, opening(length, rows.time, shift)), opens, before.price if before else None
    )


def summary(tape: Tape, start: int, end: int) -> BarColumns:
    """Return all trades in [start, end) as one bar; empty if there are none."""
    minute, block = (min(end, -(-start // length) * length) for length in (MINUTE, tape.block_ms))
    early = bar_columns.of_trades(tape.trades(start, minute))
    rows = bar_columns.join([early, _rows(tape, MINUTE, minute, block), _rows(tape, tape.block_ms, block, end)])
    return _one(rows, start)


def _grain(tape: Tape, length: int, shift: int) -> int:
    """Return the length of the bars that longer ones are made of: as long as possible, for speed."""
    if length == SECOND:
        return SECOND
    if (length == MONTH or length % DAY == 0) and not shift:
        return DAY
    whole = length % tape.block_ms == 0 and shift % tape.block_ms == 0
    return tape.block_ms if whole else MINUTE


def _rows(tape: Tape, grain: int, start: int, end: int) -> BarColumns:
    """Return bars of `grain` in [start, end), then shorter ones of the rest, and the last trades before `end`."""
    start = max(start, tape.start // grain * grain)
    if start >= end:
        return bar_columns.EMPTY
    if grain == SECOND:
        trades = bar_columns.of_trades(tape.trades(start, end))
        return bar_columns.roll(trades, trades.time // SECOND * SECOND)
    parts = list[BarColumns]()
    for length in dict.fromkeys((DAY, tape.block_ms, MINUTE)):
        if length <= grain and (whole := end // length * length) > start:
            parts.append(_days(tape, start, whole) if length == DAY else tape.bars(length, start, whole))
            start = whole
    parts.append(_one(bar_columns.of_trades(tape.trades(start, end)), start))
    return bar_columns.join(parts)


def _one(rows: BarColumns, opened: int) -> BarColumns:
    """Merge all rows into one bar."""
    return bar_columns.roll(rows, np.full(len(rows.time), opened))


def _days(tape: Tape, start: int, end: int) -> BarColumns:
    length = ROLLED_DAYS * DAY
    return bar_columns.cut(
        bar_columns.join([_rolled(tape, n) for n in range(start // length, -(-end // length))]), start, end
    )


@lru_cache(1024)
def _rolled(tape: Tape, number: int) -> BarColumns:
    """Return `ROLLED_DAYS` whole days."""
    rows = tape.bars(tape.block_ms, number * ROLLED_DAYS * DAY, (number + 1) * ROLLED_DAYS * DAY)
    return bar_columns.roll(rows, rows.time // DAY * DAY)


def _months(opened: int, count: int, shift: int) -> Ints:
    """Return `count` open times of months from `opened` on; with a negative count the last ones up to it."""
    month = np.array([opened + shift]).astype("datetime64[ms]").astype("datetime64[M]")
    steps = np.arange(count) if count > 0 else np.arange(count + 1, 1)
    return _ms(month + steps) - shift


def _ms(dates: Any) -> Ints:
    return np.asarray(dates.astype("datetime64[ms]").astype(np.int64))
