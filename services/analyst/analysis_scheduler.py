"""Which series is recomputed next: live candles first, then series with subscribers, then series with new history."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.analyst import metrics
from services.analyst.backfill_monitor import BackfillMonitor
from services.analyst.computed_rows import compute_rows, daily_since, earliest_needed, forming_values, requested_values
from services.analyst.series_window import VERIFIED_CANDLES, DirtyRange, SeriesWindow, WindowState
from services.core.errors import Unavailable
from services.core.exchange import Exchange
from services.core.history_depth import requested_timeframe
from services.core.indicators import (
    STANDARD,
    TIMEFRAMES_WITH_DAILY_LEVELS,
    IndicatorSpec,
    OhlcvColumns,
    parse_specs,
    to_columns,
)
from services.core.journal import indicator_topic
from services.core.model import Candle, ExchangeStatus, IndicatorRequest, IndicatorValue, Series
from services.core.timeframes import TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.exchanges import instruments_to_collect
from services.log_throttle import ThrottledLog
from services.ports import Clock, Store
from services.sequencing import SequencedPublisher
from services.settings import Settings

FULL_RELOAD_MS = 600_000  # after which all of a series is read again, although nothing seems to have changed
PUBLISHED_CANDLES = 3  # newest closed candles whose values are published when they change
REQUEST_TTL_MS = 30_000  # from the arrival of a request: the clock of the replica that stamped it may be wrong
MAX_REQUESTED_INDICATORS = 1_000  # beside the standard set
DAILY_TIMEFRAME = "1d"
log = logging.getLogger(__name__)


class _FormingJob(NamedTuple):
    series: Series
    closed: OhlcvColumns
    forming: OhlcvColumns
    specs: Sequence[IndicatorSpec]
    daily: OhlcvColumns | None


class AnalysisScheduler:
    """The windows of all configured series, with what is computed of them."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        publisher: SequencedPublisher,
        exchanges: Sequence[Exchange],
        settings: Settings,
    ) -> None:
        self._store, self._clock, self._publisher, self._throttled_log = store, clock, publisher, ThrottledLog(log)
        self._stored_specs = STANDARD if settings.store_indicators else ()
        self.windows = {series: SeriesWindow(series) for series in series_to_analyse(exchanges, settings)}
        self._request_expiry: dict[tuple[Series, IndicatorSpec], int] = {}  # beside the standard set
        self._watched_until: dict[Series, int] = {}  # series with subscribers
        native = {exchange.name: exchange.kline_timeframes for exchange in exchanges}
        sources = {
            each: requested_timeframe(each.timeframe, native[each.exchange](each.instrument)) for each in self.windows
        }
        self._backfill = BackfillMonitor(sources, clock.monotonic())

    def on_candle(self, candle: Candle) -> None:
        """Apply a candle that is new or has changed."""
        now = self._clock.monotonic()
        if window := self.windows.get(candle.series):
            window.on_candle(candle, now)
        if candle.closed and candle.series.timeframe == DAILY_TIMEFRAME:
            for name in TIMEFRAMES_WITH_DAILY_LEVELS:
                if window := self.windows.get(candle.series._replace(timeframe=name)):
                    window.request_reload(now)

    def on_request(self, request: IndicatorRequest) -> None:
        """Publish an indicator for the next 30 s. Raises KursError if it does not exist."""
        (spec,), window = parse_specs(request.indicator), self.windows.get(request.series)
        if window is None:
            return
        until = self._clock.monotonic() + REQUEST_TTL_MS
        self._watched_until[request.series] = until
        self._publisher.retain_topic(indicator_topic(request.series, str(spec)))
        if spec in STANDARD:
            return
        if (request.series, spec) not in self._request_expiry:
            if len(self._request_expiry) >= MAX_REQUESTED_INDICATORS:
                return
            window.request_reload()  # the indicator may need older candles than those in memory
            window.forming_dirty = True
        self._request_expiry[request.series, spec] = until

    def _requested_specs(self, series: Series) -> list[IndicatorSpec]:
        now = self._clock.monotonic()
        for expired in [key for key, until in self._request_expiry.items() if until < now]:
            del self._request_expiry[expired]
            self._publisher.drop_topic(indicator_topic(expired[0], str(expired[1])))
        return [spec for each, spec in self._request_expiry if each == series]

    def on_status(self, status: ExchangeStatus) -> None:
        """Apply the status of an exchange."""
        self._backfill.on_status(status, self._clock.monotonic())

    @property
    def backfill_running(self) -> bool:
        """Whether history is being loaded. Computing rows can wait meanwhile."""
        return self._backfill.any_running(self._clock.monotonic())

    def next_window(self) -> SeriesWindow | None:
        """Return the window to recompute next."""
        now = self._clock.monotonic()
        live = next((window for window in self.windows.values() if window.state is WindowState.DIRTY), None)
        if live:
            return live
        self._watched_until = {series: until for series, until in self._watched_until.items() if until >= now}
        ready = [window for window in self.windows.values() if window.should_reload(now)]
        watched = (window for window in ready if window.series in self._watched_until)
        complete = (window for window in ready if not self._backfill.is_pending(window.series, now))
        return next(watched, None) or next(complete, None)

    async def recompute(self, window: SeriesWindow) -> None:
        """Reload a window if necessary, compute and save its outdated rows, and publish the newest values.

        Raises Unavailable. The window then still knows what is outdated.
        """
        with metrics.RECOMPUTE_SECONDS.time():
            if window.needs_reload:
                await self._reload(window)
            with window.recomputing() as dirty:
                if dirty is None:
                    return
                values = await self._save_rows(window, dirty)
        await self._publish(values)

    async def _save_rows(self, window: SeriesWindow, dirty: DirtyRange) -> list[IndicatorValue]:
        """Compute and save the rows of a range; return the values of the newest candles, to be published."""
        series, closed, daily, store = window.series, window.closed, window.daily, self._store
        newest = closed.open_times[-PUBLISHED_CANDLES:].tolist()
        published_since = max(dirty.since, newest[0]) if newest else dirty.since
        specs, stored_specs = self._requested_specs(series), self._stored_specs
        requested = await asyncio.to_thread(requested_values, series, closed, published_since, specs, daily)
        rows = await asyncio.to_thread(compute_rows, series, closed, dirty.since, daily, stored_specs)
        if dirty.invalid_from is not None and dirty.invalid_from < dirty.since:
            await store.delete_derived(series, dirty.invalid_from, dirty.since - 1)
        await store.save(*rows)
        metrics.ROWS.inc(len(rows))
        standard = [row for row in rows if isinstance(row, IndicatorValue)]
        if not stored_specs:
            standard = await asyncio.to_thread(requested_values, series, closed, published_since, STANDARD, daily)
        return [*(value for value in standard if value.open_time >= published_since), *requested]

    async def verify(self) -> None:
        """Compare the windows with the newest candles in the store. Raises Unavailable."""
        now = self._clock.monotonic()
        for window in self.windows.values():
            if window.needs_reload:
                continue
            newest = await self._store.latest_candles(window.series, FAR_FUTURE, VERIFIED_CANDLES + 1)
            if now - window.reloaded_at >= FULL_RELOAD_MS or not window.matches(newest):
                window.request_reload()

    async def publish_forming(self) -> None:
        """Publish the indicators of forming candles that have changed."""
        jobs = [
            _FormingJob(
                window.series,
                window.closed,
                to_columns([window.forming]),
                [*STANDARD, *self._requested_specs(window.series)],
                window.daily,
            )
            for window in self.windows.values()
            if window.forming and window.forming_dirty and window.forming_follows
        ]
        for job in jobs:
            self.windows[job.series].forming_dirty = False
        if jobs:
            await self._publish(await asyncio.to_thread(_compute_forming, jobs))

    async def _publish(self, values: Sequence[IndicatorValue]) -> None:
        """Publish values that differ from the published ones. While the bus is unavailable they are dropped, because
        only the newest matter.
        """
        try:
            await self._publisher.publish(*values)
        except Unavailable as error:
            self._throttled_log.warning("analyst: %d indicator values not published, dropped: %s", len(values), error)

    async def _reload(self, window: SeriesWindow) -> None:
        store, timeframe, daily = self._store, window.timeframe, None
        with window.reloading():
            candles = await store.latest_candles(window.series, FAR_FUTURE, VERIFIED_CANDLES + 1)
            if candles:
                oldest = candles[0].bar.open_time
                since = earliest_needed(timeframe, oldest, self._requested_specs(window.series))
                candles = await store.candles(window.series, since, FAR_FUTURE)
                if (first_day := daily_since(timeframe, oldest)) is not None:
                    days = window.series._replace(timeframe=DAILY_TIMEFRAME)
                    daily = await store.candles(days, first_day, FAR_FUTURE)
            window.finish_reload(candles, self._clock.monotonic())
        if daily is not None:
            window.set_daily(daily)


def _compute_forming(jobs: Iterable[_FormingJob]) -> list[IndicatorValue]:
    return [value for job in jobs for value in forming_values(*job)]


def series_to_analyse(exchanges: Iterable[Exchange], settings: Settings) -> Iterable[Series]:
    """Return every timeframe of every symbol that the configured exchanges have candles of."""
    for exchange in exchanges:
        for instrument in instruments_to_collect(exchange.name, settings):
            if exchange.kline_timeframes(instrument):
                yield from (Series(exchange.name, instrument, name) for name in TIMEFRAMES)
