"""Which history is still on its way: what it comes to is computed once it has arrived, not at each page of it."""

from collections.abc import Mapping
from typing import NamedTuple

from services.core.model import BackfillProgress, ExchangeStatus, Series

COLLECTOR_SILENT_MS = 5_000  # ms without a word of a collector; then nobody loads anything
BACKFILL_STALL_MS = 30_000  # ms in which nothing more arrives; then it is computed without


class _ExchangeBackfill(NamedTuple):
    progress: BackfillProgress | None  # None: nobody has looked yet
    changed_at: int  # when there was less or more of it last
    received_at: int


class BackfillMonitor:
    """What collectors say of the history they load. Times are of a clock that nobody sets.

    `sources`: the timeframe that is asked of the exchange so as to have a series.
    """

    def __init__(self, source_timeframes: Mapping[Series, str | None], now: int) -> None:
        self._source_timeframes, self._started_at = source_timeframes, now
        self._by_exchange: dict[str, _ExchangeBackfill] = {}

    def on_status(self, state: ExchangeStatus, now: int) -> None:
        """A collector says how it stands."""
        missing, before = state.backfill and state.backfill.missing, self._by_exchange.get(state.exchange)
        same = before and missing == (before.progress and before.progress.missing)
        self._by_exchange[state.exchange] = _ExchangeBackfill(
            state.backfill, before.changed_at if before and same else now, now
        )

    def is_pending(self, series: Series, now: int) -> bool:
        """Whether more of its history may arrive soon."""
        known = self._by_exchange.get(series.exchange)
        if known is None:
            return now - self._started_at < COLLECTOR_SILENT_MS
        if not self._is_running(known, now):
            return False
        source, history = self._source_timeframes.get(series), known.progress
        if history is None or history.unlisted:
            return True
        of = (each for each in history.incomplete if (each.instrument, each.timeframe) == (series.instrument, source))
        return any(not each.reason for each in of)

    def any_running(self, now: int) -> bool:
        """Whether any history is being loaded."""
        return any(self._is_running(known, now) for known in self._by_exchange.values())

    @staticmethod
    def _is_running(backfill: _ExchangeBackfill, now: int) -> bool:
        rest = backfill.progress is None or bool(backfill.progress.missing or backfill.progress.incomplete)
        return (
            rest and now - backfill.received_at < COLLECTOR_SILENT_MS and now - backfill.changed_at < BACKFILL_STALL_MS
        )
