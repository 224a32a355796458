"""How much history is to be kept."""

from collections.abc import Collection

from services.core.exchange import Exchange
from services.core.timeframes import DAY, TIMEFRAMES, parents

BEGINNING = 1_483_228_800_000  # 2017: no exchange of ours has older candles


def due(exchange: Exchange, timeframe: str, until: int, bars: int, given: Collection[str]) -> int:
    """The first opening that is to be kept when `until` is the last, as far back as the exchange goes."""
    frame, days = TIMEFRAMES[timeframe], exchange.history_days.get(timeframe)
    reach = frame.closing(frame.opening(until - days * DAY)) if days else 0
    return max(reach, depth(timeframe, until, bars, given))


def depth(timeframe: str, until: int, bars: int, given: Collection[str]) -> int:
    """The first opening that is to be kept when `until` is the last; of 1d all there are.

    `given` are the timeframes that the exchange has. What it does not have is rolled up, so that the shorter ones reach
    back as far as the longer ones need.
    """
    frame = TIMEFRAMES[timeframe]
    back = min(max(0, bars - 1), frame.expected(BEGINNING, until))  # 100,000 months ago there was no calendar
    first = BEGINNING if timeframe == "1d" and bars > 1 else frame.back(frame.opening(until), back)
    first = min(first, forming_since(timeframe, frame.closing(frame.opening(until)), given))
    rolled = (parent.name for parent in parents(timeframe) if parent.name not in given)
    first = min([first, *(depth(name, until, bars + 1, given) for name in rolled)])  # of which the last is forming
    return next(frame.openings(max(first, BEGINNING), until + 1), until)


def forming_since(timeframe: str, now: int, given: Collection[str]) -> int:
    """The first opening whose bar is part of a longer one that is forming now, and is rolled up from these."""
    above = (
        parent.opening(now) if parent.name in given else forming_since(parent.name, now, given)
        for parent in parents(timeframe)
    )
    return min([TIMEFRAMES[timeframe].opening(now), *above])


def source(timeframe: str, given: Collection[str]) -> str | None:
    """The timeframe that is asked of the exchange so as to have this one: itself, or what it is rolled up from."""
    name: str | None = timeframe
    while name and name not in given:
        name = TIMEFRAMES[name].child
    return name


def sources(timeframe: str, given: Collection[str]) -> list[str]:
    """The timeframes that are asked of the exchange so as to have the bar of this one that is forming now."""
    found, name = list[str](), source(timeframe, given)
    while name:
        found.append(name)
        child = TIMEFRAMES[name].child
        name = child and source(child, given)
    return found
