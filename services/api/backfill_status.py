"""The backfill of each series, and the requests that load first what a client waits for."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from services.api.exchange_status import COLLECTOR_TIMEOUT_MS as UNHEARD_MS
from services.api.exchange_status import current_status
from services.core import history_depth
from services.core.errors import Unavailable
from services.core.exchange import Exchange
from services.core.model import ExchangeStatus, FeedStatus, HistoryRequest, Instrument, Series, SeriesProgress
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.exchanges import instruments_to_collect
from services.hub import Hub
from services.ports import Bus, Clock
from services.settings import Settings

PRIORITY_SECONDS = 60  # for which a request has priority
MIN_REQUEST_INTERVAL_MS = 5_000  # of the same series
COLLECTOR_SILENT = "its collector is silent"
MAX_REQUESTED_SERIES = 1_000  # remembered, before all of them are dropped


class LoadingStatus(NamedTuple):
    """How many closed candles there should be and are. `reason`: why no more are loaded now."""

    expected: int
    available: int
    reason: str | None = None


class BackfillStatus:
    """The backfill of all series, as their collectors report it."""

    def __init__(self, *, exchanges: Iterable[Exchange], settings: Settings, hub: Hub, bus: Bus, clock: Clock) -> None:
        self._hub, self._bus, self._clock = hub, bus, clock
        self._bars = settings.history_bars
        self._sources: dict[tuple[str, Instrument], tuple[Exchange, frozenset[str]]] = {}
        for exchange in exchanges:
            for instrument in instruments_to_collect(exchange.name, settings):
                if native := exchange.kline_timeframes(instrument):
                    self._sources[exchange.name, instrument] = exchange, native
        self._listed: dict[str, tuple[ExchangeStatus, Mapping[tuple[Instrument, str], SeriesProgress]]] = {}
        self._requested: dict[Series, int] = {}
        self._started_at = clock.monotonic()

    def progress(self, series: Series) -> SeriesProgress | None:
        """Return the progress of a series that is not complete, None if it is complete or no collector loads it.

        An expected count of 0: no scan has counted it yet.
        """
        exchange, native = self._sources.get(series[:2], (None, frozenset[str]()))
        name = history_depth.requested_timeframe(series.timeframe, native)
        if exchange is None or name is None:
            return None
        state = current_status(self._hub, exchange.name, self._clock.monotonic())
        if any(source.instrument == series.instrument and source.status is FeedStatus.ABSENT for source in state.feeds):
            return None
        is_reporting = (
            state is self._hub.exchange_statuses.get(exchange.name)
            or self._clock.monotonic() - self._started_at < UNHEARD_MS
        )
        trouble = COLLECTOR_SILENT if not is_reporting else "" if state.connected else state.reason
        if state.backfill is None:
            return self._unknown_progress(series, exchange, native, trouble)
        progress = self._listed_series(state).get((series.instrument, name))
        if progress is None:
            return self._unknown_progress(series, exchange, native, trouble) if state.backfill.unlisted else None
        if not progress.expected:
            return self._unknown_progress(series, exchange, native, trouble or progress.reason or state.backfill.reason)
        return SeriesProgress(
            series.instrument,
            series.timeframe,
            next(TIMEFRAMES[series.timeframe].open_times(progress.since, FAR_FUTURE)),
            *_scaled_counts(progress, series.timeframe),
            trouble or progress.reason or state.backfill.reason,
        )

    async def check(
        self, series: Series, span: tuple[int | None, int, int | None], closed: Callable[[int], int]
    ) -> LoadingStatus | None:
        """Return the progress of a response about `span`: since, until, and at most so many closed candles.

        `closed`: returns how many closed candles it has from an open time on. None: it is complete, or will never be.
        Candles that are still to come are requested.
        """
        progress, (since, until, limit) = self.progress(series), span
        timeframe = TIMEFRAMES[series.timeframe]
        until = min(until, timeframe.open_time(self._clock.now()) - 1)
        if progress is None:
            await self.request(series, until if since is None else since, until)
            return None
        first = progress.since if since is None else max(progress.since, since)
        expected, available = timeframe.count_between(first, until), closed(first)
        expected = expected if limit is None else min(expected, limit)
        if available >= expected:
            return None
        if since is None and limit is not None:
            first = max(first, timeframe.step_back(timeframe.open_time(until), limit))
        await self.request(series, first, until)
        return LoadingStatus(expected, available, progress.reason or None)

    async def request(self, series: Series, since: int, until: int) -> None:
        """Have the missing candles fetched first; soon again, if the bus is unavailable."""
        now = self._clock.monotonic()
        if now - self._requested.get(
            series, -MIN_REQUEST_INTERVAL_MS
        ) < MIN_REQUEST_INTERVAL_MS or not self._incomplete(series):
            return
        if len(self._requested) >= MAX_REQUESTED_SERIES:
            self._requested.clear()
        self._requested[series] = now
        with suppress(Unavailable):
            await self._bus.publish(HistoryRequest(series, since, until, PRIORITY_SECONDS))

    def _incomplete(self, series: Series) -> bool:
        """Whether the series, or one of those that its forming bar is built from, is not complete."""
        _, native = self._sources.get(series[:2], (None, frozenset[str]()))
        names = history_depth.requested_timeframes(series.timeframe, native)
        return any(self.progress(series._replace(timeframe=name)) for name in names)

    def _unknown_progress(
        self, series: Series, exchange: Exchange, native: frozenset[str], reason: str
    ) -> SeriesProgress:
        timeframe = TIMEFRAMES[series.timeframe]
        until = timeframe.step_back(timeframe.open_time(self._clock.now()), 1)
        first = history_depth.first_wanted(exchange, series.timeframe, until, self._bars, native)
        return SeriesProgress(series.instrument, series.timeframe, first, 0, 0, reason)

    def _listed_series(self, state: ExchangeStatus) -> Mapping[tuple[Instrument, str], SeriesProgress]:
        """Return the series that a status lists, by name."""
        listed_state, by_name = self._listed.get(state.exchange, (None, {}))
        if listed_state is not state:
            listed = state.backfill.incomplete if state.backfill else ()
            by_name = {(each.instrument, each.timeframe): each for each in listed}
            self._listed[state.exchange] = state, by_name
        return by_name


def _scaled_counts(loaded: SeriesProgress, timeframe: str) -> tuple[int, int]:
    """Return expected and missing candles of a timeframe that is rolled up from the loaded one."""
    if loaded.timeframe == timeframe:
        return loaded.expected, loaded.missing
    length, own = (TIMEFRAMES[name].length or 30 * DAY_MS for name in (timeframe, loaded.timeframe))
    expected = max(1, loaded.expected * own // length)
    return expected, min(expected, -(-loaded.missing * own // length))
