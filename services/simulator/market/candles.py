"""Candles of a tape: every timeframe with Binance's boundaries, closed and forming, equal to the trades to a digit."""

from functools import lru_cache
from typing import Any

import numpy as np

from services.simulator.market import bars
from services.simulator.market.bars import Bars
from services.simulator.market.listings import DAY, MINUTE, SECOND
from services.simulator.market.paths import Ints
from services.simulator.market.tape import Tape

HOUR = 60 * MINUTE
MONTH = 0  # its length varies
LENGTHS = {
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
ORIGINS = {3 * DAY: DAY, 7 * DAY: 4 * DAY}  # the first opening after 1970 began: 2 January, a Monday; else midnight


def opening(length: int, times: Ints, shift: int = 0) -> Ints:
    """When the bars that hold `times` opened. `shift` is the time zone's distance from UTC, in ms."""
    local = times + shift
    if length == MONTH:
        return _ms(local.astype("datetime64[ms]").astype("datetime64[M]")) - shift
    origin = ORIGINS.get(length, 0)
    return (local - origin) // length * length + origin - shift


def closing(length: int, opened: int, shift: int = 0) -> int:
    """When the next bar opens."""
    return opened + length if length else int(opening(MONTH, np.array([opened + 32 * DAY]), shift)[0])


def openings(length: int, start: int | None, end: int, limit: int, shift: int = 0) -> Ints:
    """Openings up to `end`, ascending: the first `limit` from `start` on, or the last `limit` if it is None."""
    last = int(opening(length, np.array([end]), shift)[0])
    if start is None:
        return last - length * np.arange(limit)[::-1] if length else _months(last, -limit, shift)
    first = int(opening(length, np.array([start]), shift)[0])
    first = first if first >= start else closing(length, first, shift)
    if not length:
        found = _months(first, limit, shift)
        return found[found <= end]
    return np.arange(first, min(last, first + (limit - 1) * length) + 1, length)


def candles(tape: Tape, length: int, opens: Ints, now: int, shift: int = 0) -> Bars:
    """The bars that open at `opens` (ascending), as they stand at `now`; those before the first trade are left out."""
    if not len(opens):
        return bars.EMPTY
    start, end = int(opens[0]), closing(length, int(opens[-1]), shift)
    rows = _rows(tape, _grain(length, shift), start, min(end, now + 1))
    before = tape.before(start)
    return bars.fill(bars.roll(rows, opening(length, rows.time, shift)), opens, before.price if before else None)


def summary(tape: Tape, start: int, end: int) -> Bars:
    """All trades in [start, end) as one bar; empty if there are none."""
    whole = -(-start // MINUTE) * MINUTE
    early = bars.of_trades(tape.trades(start, min(whole, end)))
    rows = bars.join([early, _rows(tape, MINUTE, whole, end)]) if whole < end else early
    return _one(rows, start)


def _grain(length: int, shift: int) -> int:
    """The length of the bars to make others of: few enough to be quick."""
    if length == SECOND:
        return SECOND
    if (length == MONTH or length % DAY == 0) and not shift:
        return DAY
    return 30 * MINUTE if length % (30 * MINUTE) == 0 and shift % (30 * MINUTE) == 0 else MINUTE


def _rows(tape: Tape, grain: int, start: int, end: int) -> Bars:
    """Bars of `grain` in [start, end), the last with the trades before `end` alone."""
    start = max(start, tape.start)
    if start >= end:
        return bars.EMPTY
    if grain == SECOND:
        trades = bars.of_trades(tape.trades(start, end))
        return bars.roll(trades, trades.time // SECOND * SECOND)
    parts = [
        tape.minutes(day) if grain == MINUTE else _day(tape, day, grain) for day in range(start // DAY, end // DAY)
    ]
    if end % DAY:
        minute = end // MINUTE * MINUTE
        parts.append(bars.cut(tape.minutes(end // DAY), start, minute))
        parts.append(_one(bars.of_trades(tape.trades(max(start, minute), end)), minute))
    return bars.cut(bars.join(parts), start, end)


def _one(rows: Bars, opened: int) -> Bars:
    """All rows as one bar."""
    return bars.roll(rows, np.full(len(rows.time), opened))


@lru_cache(32_768)
def _day(tape: Tape, day: int, grain: int) -> Bars:
    """One whole day."""
    minutes = tape.minutes(day)
    return bars.roll(minutes, minutes.time // grain * grain)


def _months(opened: int, count: int, shift: int) -> Ints:
    """`count` openings of months from `opened` on; a negative count: the last ones up to it."""
    month = np.array([opened + shift]).astype("datetime64[ms]").astype("datetime64[M]")
    steps = np.arange(count) if count > 0 else np.arange(count + 1, 1)
    return _ms(month + steps) - shift


def _ms(dates: Any) -> Ints:
    return np.asarray(dates.astype("datetime64[ms]").astype(np.int64))
