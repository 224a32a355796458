"""All series that are followed: what changed in them is put right in the store, one series at a time, what is live
first."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from services.analyst import metrics
from services.analyst.backfill_monitor import BackfillMonitor
from services.analyst.computed_rows import compute_rows, daily_since, earliest_needed, forming_values, requested_values
from services.analyst.series_window import VERIFIED_CANDLES, SeriesWindow
from services.core.analysis import Analysis
from services.core.conversion import instruments_to_collect
from services.core.errors import Unavailable
from services.core.history_depth import requested_timeframe
from services.core.indicators import STANDARD, IndicatorSpec, OhlcvColumns, parse_specs, to_columns
from services.core.journal import indicator_topic
from services.core.model import Candle, ExchangeStatus, IndicatorRequest, IndicatorValue, Series
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.log_throttle import ThrottledLog
from services.ports import Deps
from services.sequencing import SequencedPublisher

FULL_RELOAD_MS = 600_000  # ms after which all of a series is read again, whatever was heard
PUBLISHED_CANDLES = 3  # newest closed candles whose readings are told when they change
REQUEST_TTL_MS = 30_000  # ms that a wish lasts from when it came: the clock of the replica that stamped it may be wrong
DAILY_TIMEFRAME = "1d"
TIMEFRAMES_WITH_DAILY_LEVELS = [
    name for name, frame in TIMEFRAMES.items() if daily_since(frame, frame.open_time(DAY_MS)) is not None
]
MAX_REQUESTED_INDICATORS = 1_000  # indicators that are watched beside the standard set
log = logging.getLogger(__name__)


class AnalysisScheduler:
    """The windows of all series, and what is done with them."""

    def __init__(self, deps: Deps) -> None:
        self._deps, self._publisher, self._throttled_log = deps, SequencedPublisher(deps), ThrottledLog(log)
        self.windows = {series: SeriesWindow(series) for series in series_to_analyse(deps)}
        self._request_expiry: dict[
            tuple[Series, IndicatorSpec], int
        ] = {}  # what is watched beside the standard set, and until when
        self._watched_until: dict[Series, int] = {}  # whose indicators somebody watches, and until when
        given = {exchange.name: exchange.kline_timeframes for exchange in deps.exchanges}
        sources = {
            each: requested_timeframe(each.timeframe, given[each.exchange](each.instrument)) for each in self.windows
        }
        self._backfill = BackfillMonitor(sources, deps.clock.monotonic())

    def on_candle(self, candle: Candle) -> None:
        """A candle is new or has changed."""
        now = self._deps.clock.monotonic()
        if window := self.windows.get(candle.series):
            window.on_candle(candle, now)
        if candle.closed and candle.series.timeframe == DAILY_TIMEFRAME:
            for name in TIMEFRAMES_WITH_DAILY_LEVELS:
                if window := self.windows.get(candle.series._replace(timeframe=name)):
                    window.on_daily_changed(now)

    def on_request(self, request: IndicatorRequest) -> None:
        """Somebody watches an indicator, just now. Raises KursError when there is no such one."""
        (asked,), window = parse_specs(request.indicator), self.windows.get(request.series)
        if window is None:
            return
        until = self._deps.clock.monotonic() + REQUEST_TTL_MS
        self._watched_until[request.series] = until
        self._publisher.retain_topic(indicator_topic(request.series, str(asked)))
        if asked in STANDARD:
            return
        if (request.series, asked) not in self._request_expiry:
            if len(self._request_expiry) >= MAX_REQUESTED_INDICATORS:
                return
            window.needs_reload = window.forming_dirty = True  # it may look further back than what is at hand
        self._request_expiry[request.series, asked] = until

    def _requested_specs(self, series: Series) -> list[IndicatorSpec]:
        now = self._deps.clock.monotonic()
        for over in [key for key, until in self._request_expiry.items() if until < now]:
            del self._request_expiry[over]
            self._publisher.drop_topic(indicator_topic(over[0], str(over[1])))
        return [asked for each, asked in self._request_expiry if each == series]

    def on_status(self, status: ExchangeStatus) -> None:
        """A collector says how it stands."""
        self._backfill.on_status(status, self._deps.clock.monotonic())

    @property
    def backfill_running(self) -> bool:
        """Whether history is being loaded: what is computed of it can wait."""
        return self._backfill.any_running(self._deps.clock.monotonic())

    def next_window(self) -> SeriesWindow | None:
        """What is to be done now: first what is live, then what somebody follows, then all whose history is there."""
        now = self._deps.clock.monotonic()
        live = next(
            (window for window in self.windows.values() if window.dirty_from is not None and not window.needs_reload),
            None,
        )
        if live:
            return live
        self._watched_until = {series: until for series, until in self._watched_until.items() if until >= now}
        ripe = [window for window in self.windows.values() if window.should_reload(now)]
        followed = (window for window in ripe if window.series in self._watched_until)
        arrived = (window for window in ripe if not self._backfill.is_pending(window.series, now))
        return next(followed, None) or next(arrived, None)

    async def recompute(self, window: SeriesWindow) -> None:
        """Have the rows of a series say what its candles say. Raises Unavailable; then it is to be done still."""
        with metrics.RECOMPUTE_SECONDS.time():
            if window.needs_reload:
                await self._reload(window)
            due, wrong, window.dirty_from, window.invalid_from = window.dirty_from, window.invalid_from, None, None
            if due is None:
                return
            items: Sequence[IndicatorValue | Analysis] = ()
            newest = window.closed.open_times[-PUBLISHED_CANDLES:].tolist()
            told = max(due, newest[0]) if newest else due
            closed, daily, also = window.closed, window.daily, self._requested_specs(window.series)
            wished = await asyncio.to_thread(requested_values, window.series, closed, told, also, daily)
            try:
                items = await asyncio.to_thread(compute_rows, window.series, closed, due, daily)
                await self._save(window.series, items, due, wrong)
            except BaseException:
                window.restore(due, wrong)
                raise
        standard = [item for item in items if isinstance(item, IndicatorValue) and item.open_time >= told]
        await self._publish([*standard, *wished])

    async def verify(self) -> None:
        """Compare what is at hand with the store. Raises Unavailable."""
        now = self._deps.clock.monotonic()
        for window in self.windows.values():
            if window.needs_reload:
                continue
            newest = await self._deps.store.latest_candles(window.series, FAR_FUTURE, VERIFIED_CANDLES + 1)
            window.needs_reload |= now - window.reloaded_at >= FULL_RELOAD_MS or not window.matches(newest)

    async def publish_forming(self) -> None:
        """Tell what the standard indicators say at the forming candles that have moved."""
        moved = [window for window in self.windows.values() if window.forming_dirty and window.forming_follows]
        for window in moved:
            window.forming_dirty = False

        def wanted(series: Series) -> list[IndicatorSpec]:
            return [*STANDARD, *self._requested_specs(series)]

        work = [
            (window.series, window.closed, to_columns([window.forming]), wanted(window.series), window.daily)
            for window in moved
            if window.forming
        ]
        if work:
            await self._publish(await asyncio.to_thread(_forming_values, work))

    async def _publish(self, values: Sequence[IndicatorValue]) -> None:
        """Tell what is news. A bus that is away misses it: what counts is the newest."""
        try:
            await self._publisher.publish(*values)
        except Unavailable as error:
            self._throttled_log.warning("%d readings are not told: %s", len(values), error)

    async def _reload(self, window: SeriesWindow) -> None:
        heard, store, daily = window.begin_reload(), self._deps.store, None
        try:
            newest = await store.latest_candles(window.series, FAR_FUTURE, VERIFIED_CANDLES + 1)
            if newest:
                opening = newest[0].bar.open_time
                since = earliest_needed(window.timeframe, opening, self._requested_specs(window.series))
                newest = await store.candles(window.series, since, FAR_FUTURE)
                if (days := daily_since(window.timeframe, opening)) is not None:
                    daily = await store.candles(window.series._replace(timeframe=DAILY_TIMEFRAME), days, FAR_FUTURE)
        except BaseException:
            window.needs_reload = True
            raise
        window.finish_reload(newest, heard, self._deps.clock.monotonic())
        if daily is not None:
            window.set_daily(daily)

    async def _save(
        self, series: Series, items: Sequence[IndicatorValue | Analysis], dirty_from: int, invalid_from: int | None
    ) -> None:
        if invalid_from is not None and invalid_from < dirty_from:
            await self._deps.store.delete_derived(series, invalid_from, dirty_from - 1)
        await self._deps.store.save(*items)
        metrics.ROWS.inc(len(items))


def _forming_values(
    work: Iterable[tuple[Series, OhlcvColumns, OhlcvColumns, Sequence[IndicatorSpec], OhlcvColumns | None]],
) -> list[IndicatorValue]:
    return [reading for each in work for reading in forming_values(*each)]


def series_to_analyse(deps: Deps) -> Iterable[Series]:
    """All timeframes of every symbol that the configured exchanges give candles of."""
    settings = deps.settings
    for exchange in deps.exchanges:
        for instrument in instruments_to_collect(exchange.name, settings.directions, settings.assets, settings.symbols):
            if exchange.kline_timeframes(instrument):
                yield from (Series(exchange.name, instrument, name) for name in TIMEFRAMES)
