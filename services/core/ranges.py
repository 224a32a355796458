"""Ranges of open times, both ends inclusive, in ascending order."""

from collections.abc import Iterable, Sequence

from services.core.timeframes import Timeframe

TimeRange = tuple[int, int]


def from_open_times(timeframe: Timeframe, open_times: Iterable[int]) -> list[TimeRange]:
    """Return open times as ranges."""
    return merge_adjacent(timeframe, ((open_time, open_time) for open_time in sorted(open_times)))


def merge_adjacent(timeframe: Timeframe, ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """Merge ranges that follow on one another without a gap."""
    joined: list[TimeRange] = []
    for since, until in ranges:
        if joined and timeframe.close_time(joined[-1][1]) == since:
            joined[-1] = joined[-1][0], until
        else:
            joined.append((since, until))
    return joined


def subtract(timeframe: Timeframe, ranges: Iterable[TimeRange], subtracted: Sequence[TimeRange]) -> list[TimeRange]:
    """Return what of the ranges is not in the others."""
    rest = list(ranges)
    for since, until in subtracted:
        rest = [remainder for time_range in rest for remainder in _subtract_one(timeframe, time_range, since, until)]
    return rest


def _subtract_one(timeframe: Timeframe, time_range: TimeRange, since: int, until: int) -> list[TimeRange]:
    if until < time_range[0] or time_range[1] < since:
        return [time_range]
    parts = (
        (time_range[0], timeframe.step_back(timeframe.open_time(since), 1)),
        (timeframe.close_time(timeframe.open_time(until)), time_range[1]),
    )
    return [remainder for remainder in parts if remainder[0] <= remainder[1]]


def split(timeframe: Timeframe, ranges: Iterable[TimeRange], max_candles: int) -> list[TimeRange]:
    """Split ranges into ranges of at most that many candles, the newest first."""
    cut = []
    for since, until in ranges:
        while timeframe.count_between(since, until) > max_candles:
            cut.append((timeframe.step_back(until, max_candles - 1), until))
            until = timeframe.step_back(until, max_candles)  # noqa: PLW2901  what is left of the run
        cut.append((since, until))
    return sorted(cut, reverse=True)
