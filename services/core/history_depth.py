"""How far back candles are retained, and from which timeframes of the exchange they are built.

`native` are the timeframes that the exchange has. The others are rolled up from shorter ones.
"""

from collections.abc import Collection

from services.core.exchange import Exchange
from services.core.timeframes import DAY_MS, TIMEFRAMES, parents

EARLIEST_CANDLE_MS = 1_483_228_800_000  # 2017: none of the exchanges has older candles


def first_wanted(exchange: Exchange, timeframe: str, until: int, bars: int, native: Collection[str]) -> int:
    """Return the first open time to retain when `until` is the last, bounded by what the exchange still has."""
    frame, days = TIMEFRAMES[timeframe], exchange.kline_days.get(timeframe)
    reach = frame.close_time(frame.open_time(until - days * DAY_MS)) if days else 0
    return max(reach, first_configured(timeframe, until, bars, native))


def first_configured(timeframe: str, until: int, bars: int, native: Collection[str]) -> int:
    """Return the first open time to retain when `until` is the last; of 1d all are retained.

    A timeframe reaches back to where the longer ones need it that are rolled up from it.
    """
    frame = TIMEFRAMES[timeframe]
    back = min(max(0, bars - 1), frame.count_between(EARLIEST_CANDLE_MS, until))  # the calendar has no 100,000 months
    first = EARLIEST_CANDLE_MS if timeframe == "1d" and bars > 1 else frame.step_back(frame.open_time(until), back)
    first = min(first, forming_since(timeframe, frame.close_time(frame.open_time(until)), native))
    rolled_up = [parent.name for parent in parents(timeframe) if parent.name not in native]
    # one more of them, because the last is forming
    first = min([first, *(first_configured(name, until, bars + 1, native) for name in rolled_up)])
    return next(frame.open_times(max(first, EARLIEST_CANDLE_MS), until + 1), until)


def forming_since(timeframe: str, now: int, native: Collection[str]) -> int:
    """Return the first open time whose candle is part of a longer one that is forming now and is rolled up."""
    above = (
        parent.open_time(now) if parent.name in native else forming_since(parent.name, now, native)
        for parent in parents(timeframe)
    )
    return min([TIMEFRAMES[timeframe].open_time(now), *above])


def requested_timeframe(timeframe: str, native: Collection[str]) -> str | None:
    """Return the timeframe to request for this one: itself, or the one that it is rolled up from."""
    name: str | None = timeframe
    while name and name not in native:
        name = TIMEFRAMES[name].child
    return name


def requested_timeframes(timeframe: str, native: Collection[str]) -> list[str]:
    """Return the timeframes to request for the forming candle of this one."""
    requested, name = list[str](), requested_timeframe(timeframe, native)
    while name:
        requested.append(name)
        child = TIMEFRAMES[name].child
        name = child and requested_timeframe(child, native)
    return requested
