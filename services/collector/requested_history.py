"""What somebody waits for: which series are fetched before all others."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from services.core import history_depth
from services.core.model import HistoryRequest, Instrument, Series
from services.core.ranges import TimeRange
from services.core.timeframes import TIMEFRAMES

MAX_REQUESTED_SERIES = 500  # then the oldest gives way
MAX_REQUEST_SECONDS = 300


class _RequestedRange(NamedTuple):
    since: int
    until: int
    expires: int  # by the monotonic clock


class RequestedHistory:
    """Of one exchange; `given` are the timeframes that it has of each instrument."""

    def __init__(self, exchange: str, timeframes: Mapping[Instrument, Collection[str]]) -> None:
        self._exchange, self._timeframes = exchange, timeframes
        self._ranges: dict[Series, _RequestedRange] = {}
        self._forming_until: dict[
            Series, int
        ] = {}  # of which the newest bars are part of a requested bar, and until when

    def add(self, request: HistoryRequest, now: int) -> bool:
        """Answers whether it is about something that this exchange has. `now` is the monotonic clock's."""
        series, given = request.series, self._timeframes.get(request.series.instrument, ())
        name = history_depth.requested_timeframe(series.timeframe, given) if series.timeframe in TIMEFRAMES else None
        if series.exchange != self._exchange or name is None:
            return False
        expires = now + min(request.seconds, MAX_REQUEST_SECONDS) * 1000
        asked, last = series._replace(timeframe=name), TIMEFRAMES[series.timeframe].close_time(request.until) - 1
        self._ranges.pop(asked, None)
        self._ranges[asked] = _RequestedRange(request.since, last, expires)
        for each in history_depth.requested_timeframes(series.timeframe, given):
            self._forming_until.pop(asked := series._replace(timeframe=each), None)
            self._forming_until[asked] = expires
        for kept in (self._ranges, self._forming_until):
            while len(kept) > MAX_REQUESTED_SERIES:
                kept.pop(next(iter(kept)))
        return True

    def includes_forming(self, series: Series, now: int) -> bool:
        """Whether a requested bar that is forming now is made of this series' newest bars."""
        return self._forming_until.get(series, 0) > now

    def includes(self, series: Series, page: TimeRange, now: int) -> bool:
        """Whether somebody waits for any of these openings."""
        waiting = self._ranges.get(series)
        return waiting is not None and waiting.expires > now and waiting.since <= page[1] and page[0] <= waiting.until
