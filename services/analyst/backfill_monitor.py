"""Which backfills are running: rows of a series are computed once its history has arrived, not after each page."""

from collections.abc import Mapping
from typing import NamedTuple

from services.core.model import BackfillProgress, ExchangeStatus, Series

COLLECTOR_SILENT_MS = 5_000  # without a status of a collector its backfill counts as stopped
BACKFILL_STALL_MS = 30_000  # without progress a backfill counts as stopped


class _ExchangeBackfill(NamedTuple):
    progress: BackfillProgress | None  # None: the collector has not looked into the store yet
    changed_at: int  # when the number of missing candles changed last
    received_at: int


class BackfillMonitor:
    """The newest backfill progress of each exchange. Times are monotonic ms.

    `source_timeframes` has for each series the timeframe that its collector requests: 1m for most.
    """

    def __init__(self, source_timeframes: Mapping[Series, str | None], now: int) -> None:
        self._source_timeframes, self._started_at = source_timeframes, now
        self._by_exchange: dict[str, _ExchangeBackfill] = {}

    def on_status(self, status: ExchangeStatus, now: int) -> None:
        """Apply the status of an exchange."""
        missing, previous = status.backfill and status.backfill.missing, self._by_exchange.get(status.exchange)
        unchanged = previous and missing == (previous.progress and previous.progress.missing)
        changed_at = previous.changed_at if previous and unchanged else now
        self._by_exchange[status.exchange] = _ExchangeBackfill(status.backfill, changed_at, now)

    def is_pending(self, series: Series, now: int) -> bool:
        """Whether more history of a series may arrive soon."""
        backfill = self._by_exchange.get(series.exchange)
        if backfill is None:
            return now - self._started_at < COLLECTOR_SILENT_MS
        if not self._is_running(backfill, now):
            return False
        source, progress = self._source_timeframes.get(series), backfill.progress
        if progress is None or progress.unlisted:
            return True
        key = series.instrument, source
        return any(not each.reason for each in progress.incomplete if (each.instrument, each.timeframe) == key)

    def any_running(self, now: int) -> bool:
        """Whether any exchange is loading history."""
        return any(self._is_running(backfill, now) for backfill in self._by_exchange.values())

    @staticmethod
    def _is_running(backfill: _ExchangeBackfill, now: int) -> bool:
        incomplete = backfill.progress is None or bool(backfill.progress.missing or backfill.progress.incomplete)
        is_alive = now - backfill.received_at < COLLECTOR_SILENT_MS
        return incomplete and is_alive and now - backfill.changed_at < BACKFILL_STALL_MS
