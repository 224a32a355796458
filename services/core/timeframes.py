"""Timeframes and the grid of their open times, in UTC.

Weeks open on Mondays, months with the calendar, and three days are counted from 2 January 1970.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS
FIRST_MONDAY_MS = 4 * DAY_MS  # the first after the epoch
THREE_DAYS_OFFSET_MS = DAY_MS  # when the first of them began: 2 January 1970


class Timeframe(NamedTuple):
    """A length of candles in ms (0: a month) and where its grid begins; `child` is what it is rolled up from."""

    name: str
    length: int
    child: str | None
    offset: int = 0

    def open_time(self, time: int) -> int:
        """Return the open time of the candle that `time` is in."""
        if self.length:
            return (time - self.offset) // self.length * self.length + self.offset
        moment = datetime.fromtimestamp(time // 1000, UTC)
        return _ms(datetime(moment.year, moment.month, 1, tzinfo=UTC))

    def close_time(self, open_time: int) -> int:
        """Return the open time of the next candle."""
        return open_time + self.length if self.length else self.open_time(open_time + 32 * DAY_MS)

    def open_times(self, since: int, until: int) -> Iterator[int]:
        """Yield the open times in [since, until], ascending."""
        open_time = self.open_time(since)
        if open_time < since:
            open_time = self.close_time(open_time)
        while open_time <= until:
            yield open_time
            open_time = self.close_time(open_time)

    def count_between(self, since: int, until: int) -> int:
        """Return the number of open times in [since, until]."""
        if not self.length:
            return sum(1 for _ in self.open_times(since, until))
        return max(0, (until - self.offset) // self.length - (since - self.offset - 1) // self.length)

    def count_in(self, ranges: Iterable[tuple[int, int]]) -> int:
        """Return the number of open times in all of the ranges."""
        return sum(self.count_between(since, until) for since, until in ranges)

    def step_back(self, open_time: int, count: int) -> int:
        """Return the open time `count` candles earlier."""
        if self.length:
            return open_time - count * self.length
        for _ in range(count):
            open_time = self.open_time(open_time - 1)
        return open_time


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


_ROWS = (
    ("1m", 1, None),
    ("3m", 3, "1m"),
    ("5m", 5, "1m"),
    ("15m", 15, "5m"),
    ("30m", 30, "15m"),
    ("1h", 60, "30m"),
    ("2h", 120, "1h"),
    ("4h", 240, "2h"),
    ("6h", 360, "2h"),
    ("8h", 480, "4h"),
    ("12h", 720, "6h"),
    ("1d", 1440, "12h"),
)
TIMEFRAMES: dict[str, Timeframe] = {
    **{name: Timeframe(name, minutes * MINUTE_MS, child) for name, minutes, child in _ROWS},
    "3d": Timeframe("3d", 3 * DAY_MS, "1d", THREE_DAYS_OFFSET_MS),
    "1w": Timeframe("1w", 7 * DAY_MS, "1d", FIRST_MONDAY_MS),
    "1M": Timeframe("1M", 0, "1d"),
}


def with_roll_ups(names: Collection[str]) -> tuple[str, ...]:
    """Return these timeframes and all that are rolled up from them, the shortest first."""
    included = list[str]()
    for timeframe in TIMEFRAMES.values():  # a child comes before its parents
        if timeframe.name in names or timeframe.child in included:
            included.append(timeframe.name)
    return tuple(included)


def parents(name: str) -> tuple[Timeframe, ...]:
    """Return the timeframes that are rolled up from this one."""
    return tuple(timeframe for timeframe in TIMEFRAMES.values() if timeframe.child == name)
