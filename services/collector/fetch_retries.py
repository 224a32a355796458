"""When klines are requested again after an error, of one series or of the whole exchange. Times by the loop's clock."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from services.collector.rest_client import RestError
from services.collector.scan_schedule import MAX_RETRY_SECONDS
from services.core.backoff import delays
from services.core.model import Series

FIRST_SERIES_RETRY_SECONDS = 15.0  # after an answer that is an error: the next one is likely to be the same
FIRST_RETRY_SECONDS = 1.0  # after no answer
MAX_PAUSE_SECONDS = 60.0


class _SeriesFailure(NamedTuple):
    reason: str
    retry_at: float
    delays: Iterator[float]


class FetchRetries:
    """Back-off of one exchange. `kline_delay_seconds` is long where calls are rationed."""

    def __init__(self, kline_delay_seconds: float) -> None:
        self._first_series_retry = max(FIRST_SERIES_RETRY_SECONDS, kline_delay_seconds / 100)
        self._max_series_retry = max(MAX_RETRY_SECONDS, kline_delay_seconds)
        self._failures: dict[Series, _SeriesFailure] = {}
        self._paused_until, self._pause_reason = 0.0, ""
        self._pause_delays = delays(1, MAX_PAUSE_SECONDS)

    @property
    def pause_reason(self) -> str:
        """Why nothing is requested; "" while requests go out."""
        return self._pause_reason if self.is_paused() else ""

    def is_paused(self) -> bool:
        """Return whether the whole exchange is left alone."""
        return _now() < self._paused_until

    def reason(self, series: Series) -> str:
        """Return why the last request for a series failed; "" if it did not."""
        failure = self._failures.get(series)
        return failure.reason if failure else ""

    def may_fetch(self, series: Series) -> bool:
        """Return whether a series' own failures allow a request."""
        failure = self._failures.get(series)
        return failure is None or _now() >= failure.retry_at

    def on_success(self, series: Series) -> None:
        """Forget the failures of a series, and those of the exchange."""
        self._pause_delays = delays(1, MAX_PAUSE_SECONDS)
        self.forget(series)

    def forget(self, series: Series) -> None:
        """Forget the failures of a series."""
        self._failures.pop(series, None)

    def on_series_error(self, series: Series, error: RestError) -> None:
        """Set when a series is requested again."""
        previous = self._failures.get(series)
        first = self._first_series_retry if error.request_specific else FIRST_RETRY_SECONDS
        retry_delays = previous.delays if previous else delays(first, self._max_series_retry)
        self._failures[series] = _SeriesFailure(error.reason, _now() + next(retry_delays), retry_delays)

    def pause(self, reason: str, retry_after: float) -> float:
        """Leave the whole exchange alone, `retry_after` seconds at least. Return until when."""
        if not self.is_paused():  # of several requests that fail together one lengthens the pause
            retry_after = max(next(self._pause_delays), retry_after)
        self._paused_until, self._pause_reason = max(self._paused_until, _now() + retry_after), reason
        return self._paused_until


def _now() -> float:
    return asyncio.get_running_loop().time()
