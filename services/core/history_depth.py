"""How much history is to be kept."""

from collections.abc import Collection

from services.core.exchange import Exchange
from services.core.timeframes import DAY_MS, TIMEFRAMES, parents

EARLIEST_CANDLE_MS = 1_483_228_800_000  # 2017: no exchange of ours has older candles


def first_wanted(exchange: Exchange, timeframe: str, until: int, bars: int, native: Collection[str]) -> int:
    """The first opening that is to be kept when `until` is the last, as far back as the exchange goes."""
    frame, days = TIMEFRAMES[timeframe], exchange.kline_days.get(timeframe)
    reach = frame.close_time(frame.open_time(until - days * DAY_MS)) if days else 0
    return max(reach, first_configured(timeframe, until, bars, native))


def first_configured(timeframe: str, until: int, bars: int, native: Collection[str]) -> int:
    """The first opening that is to be kept when `until` is the last; of 1d all there are.

    `given` are the timeframes that the exchange has. What it does not have is rolled up, so that the shorter ones reach
    back as far as the longer ones need.
    """
    frame = TIMEFRAMES[timeframe]
    back = min(
        max(0, bars - 1), frame.count_between(EARLIEST_CANDLE_MS, until)
    )  # 100,000 months ago there was no calendar
    first = EARLIEST_CANDLE_MS if timeframe == "1d" and bars > 1 else frame.step_back(frame.open_time(until), back)
    first = min(first, forming_since(timeframe, frame.close_time(frame.open_time(until)), native))
    rolled = (parent.name for parent in parents(timeframe) if parent.name not in native)
    first = min(
        [first, *(first_configured(name, until, bars + 1, native) for name in rolled)]
    )  # of which the last is forming
    return next(frame.open_times(max(first, EARLIEST_CANDLE_MS), until + 1), until)


def forming_since(timeframe: str, now: int, native: Collection[str]) -> int:
    """The first opening whose bar is part of a longer one that is forming now, and is rolled up from these."""
    above = (
        parent.open_time(now) if parent.name in native else forming_since(parent.name, now, native)
        for parent in parents(timeframe)
    )
    return min([TIMEFRAMES[timeframe].open_time(now), *above])


def requested_timeframe(timeframe: str, native: Collection[str]) -> str | None:
    """The timeframe that is asked of the exchange so as to have this one: itself, or what it is rolled up from."""
    name: str | None = timeframe
    while name and name not in native:
        name = TIMEFRAMES[name].child
    return name


def requested_timeframes(timeframe: str, native: Collection[str]) -> list[str]:
    """The timeframes that are asked of the exchange so as to have the bar of this one that is forming now."""
    found, name = list[str](), requested_timeframe(timeframe, native)
    while name:
        found.append(name)
        child = TIMEFRAMES[name].child
        name = child and requested_timeframe(child, native)
    return found
