"""Candles that replicas request for their clients: they are fetched before all others."""

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeVar

from services.core import history_depth
from services.core.model import HistoryRequest, Instrument, Series
from services.core.ranges import TimeRange
from services.core.timeframes import TIMEFRAMES

MAX_REQUESTED_SERIES = 500  # the oldest request gives way
MAX_REQUEST_SECONDS = 300
T = TypeVar("T")


class _RequestedRange(NamedTuple):
    since: int
    until: int
    expires: int  # by the monotonic clock, in ms


class RequestedHistory:
    """Requests about one exchange, which has klines of `timeframes` of each instrument."""

    def __init__(self, exchange: str, timeframes: Mapping[Instrument, Collection[str]]) -> None:
        self._exchange, self._timeframes = exchange, timeframes
        self._ranges: dict[Series, _RequestedRange] = {}
        self._forming_until: dict[Series, int] = {}  # expiry of series whose newest bars make a requested forming bar

    def add(self, request: HistoryRequest, now: int) -> bool:
        """Add a request. Return whether this exchange has what it is about. `now` is the monotonic clock's."""
        series, native = request.series, self._timeframes.get(request.series.instrument, ())
        name = history_depth.requested_timeframe(series.timeframe, native) if series.timeframe in TIMEFRAMES else None
        if series.exchange != self._exchange or name is None:
            return False
        expires = now + min(request.seconds, MAX_REQUEST_SECONDS) * 1000
        last = TIMEFRAMES[series.timeframe].close_time(request.until) - 1
        _put_newest(self._ranges, series._replace(timeframe=name), _RequestedRange(request.since, last, expires))
        for child in history_depth.requested_timeframes(series.timeframe, native):
            _put_newest(self._forming_until, series._replace(timeframe=child), expires)
        return True

    def includes_forming(self, series: Series, now: int) -> bool:
        """Return whether a requested bar that is forming is made of this series' newest bars."""
        return self._forming_until.get(series, 0) > now

    def includes(self, series: Series, page: TimeRange, now: int) -> bool:
        """Return whether any open time of the page is requested."""
        requested = self._ranges.get(series)
        if requested is None or requested.expires <= now:
            return False
        return requested.since <= page[1] and page[0] <= requested.until


def _put_newest(requests: dict[Series, T], series: Series, value: T) -> None:
    requests.pop(series, None)
    requests[series] = value
    while len(requests) > MAX_REQUESTED_SERIES:
        requests.pop(next(iter(requests)))
