"""Backfill: keeps the stored candles of one exchange complete, by fetching what the scans find missing.

Fetched first is what is forming, then what replicas request, then the newest candles of all series, the longest bars
first. All progress is in the store, so the backfill resumes after any end.
"""

import asyncio
import logging
from contextlib import suppress
from typing import NamedTuple

from services.collector.backfill_report import BackfillReport
from services.collector.exchange_feed import ExchangeFeed
from services.collector.fetch_retries import FetchRetries
from services.collector.gap_scanner import ABSENT_AFTER_MS, GapScanner
from services.collector.page_fetcher import PageFetcher
from services.collector.page_queue import PageQueue, PageRequest
from services.collector.request_weight import RequestWeightBudget
from services.collector.requested_history import RequestedHistory
from services.collector.rest_client import RestClient, RestError
from services.core.backoff import delays
from services.core.errors import Unavailable
from services.core.model import HistoryRequest, Series
from services.core.timeframes import DAY_MS, MINUTE_MS, TIMEFRAMES
from services.ports import Cache, CandleReader

MAX_REQUESTS_IN_FLIGHT = 3
SCAN_REST_FACTOR = 3  # pause after a scan that no replica requested, in scans: live candles go first in the store
RESCAN_WHILE_FETCHING_MS = 60_000
IDLE_CHECK_SECONDS = 1.0
PROGRESS_INTERVAL_SECONDS = 0.5
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 1, 60  # of a scan that failed
log = logging.getLogger(__name__)


class _DueScan(NamedTuple):
    scanner: GapScanner
    requested: bool  # a replica waits for it


class Backfill:
    """Backfill of all instruments of one exchange."""

    def __init__(self, feed: ExchangeFeed, rest_client: RestClient, *, store: CandleReader, cache: Cache) -> None:
        self._feed, self._rest_client, self._store = feed, rest_client, store
        self._min_candles = feed.settings.history_bars
        self._budget = RequestWeightBudget(feed.exchange, cache, feed.clocks.exchange_now, feed.clock)
        timeframes = {instrument: feed.exchange.kline_timeframes(instrument) for instrument in feed.instruments}
        self._scanners = {
            (series := Series(feed.exchange.name, instrument, name)): GapScanner(
                series, self._store, feed.exchange, native
            )
            for name in reversed(TIMEFRAMES)  # the longest first, so that a kline comes before its roll-up
            for instrument, native in timeframes.items()
            if name in native
        }
        self._requested = RequestedHistory(feed.exchange.name, timeframes)
        self._pages = PageQueue(feed.exchange, self._scanners, self._requested)
        self._retries, self._report = FetchRetries(feed.exchange.kline_delay_seconds), BackfillReport()
        self._in_progress: set[Series] = set()  # being scanned or fetched
        self._scanned_at: dict[Series, int] = {}
        self._halted: set[Series] = set()  # of instruments that do not trade: scanned once a day
        self._pages_changed, self._scans_changed = asyncio.Event(), asyncio.Event()
        self._fetcher = PageFetcher(feed, rest_client, store, self._pages, self._report)
        self._next_page_lock = asyncio.Lock()

    async def run(self) -> None:
        """Scan and fetch until cancelled."""
        if not self._scanners:
            return
        self._in_progress.clear()  # an earlier run may have ended by an error
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consume_requests())
            group.create_task(self._report_progress())
            await self._feed.instruments_known.wait()
            group.create_task(self._scan_loop())
            for _ in range(MAX_REQUESTS_IN_FLIGHT):
                group.create_task(self._fetch_loop())

    def _now(self) -> int:
        """Return the exchange's time, which decides what bars are closed."""
        return self._feed.clocks.exchange_now()

    def _trades(self, series: Series) -> bool:
        return series.instrument in self._feed.tracker

    async def _consume_requests(self) -> None:
        async with self._feed.bus.subscribe(HistoryRequest) as messages:
            async for message in messages:
                if isinstance(message, HistoryRequest) and self._requested.add(message, self._feed.clock.monotonic()):
                    self._scans_changed.set()
                    self._pages_changed.set()

    async def _report_progress(self) -> None:
        while True:
            if self._report.changed:
                scanners = [scanner for series, scanner in self._scanners.items() if self._trades(series)]
                before, current = self._feed.backfill_progress, self._report.progress(scanners, self._retries)
                self._feed.backfill_progress = current
                if before and before.incomplete and not current.incomplete:
                    log.info("%s: all %d candles are stored", self._feed.exchange.name, current.expected)
            await self._feed.clock.sleep(PROGRESS_INTERVAL_SECONDS)

    async def _scan_loop(self) -> None:
        pauses = delays(FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
        while True:
            self._scans_changed.clear()
            if not (due := self._next_scan()):
                await _wait_or_timeout(self._scans_changed, IDLE_CHECK_SECONDS)
                continue
            began = self._feed.clock.monotonic()
            self._in_progress.add(due.scanner.series)
            try:
                await self._rest_client.ensure_exchange_clock()
                await self._scan(due.scanner)
            except RestError as error:
                self._pause(error.reason, error.retry_after)
                await self._feed.clock.sleep(max(next(pauses), error.retry_after))
                continue
            except Unavailable as error:
                log.info("%s: the scan for missing candles is retried: %s", self._feed.exchange.name, error)
                await self._feed.clock.sleep(next(pauses))
                continue
            finally:
                self._in_progress.discard(due.scanner.series)
                self._pages_changed.set()
            pauses = delays(FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
            if not due.requested:
                scan_seconds = (self._feed.clock.monotonic() - began) / 1000
                await _wait_or_timeout(self._scans_changed, SCAN_REST_FACTOR * scan_seconds)

    def _next_scan(self) -> _DueScan | None:
        """Return the most urgent scan that is due: of a requested series, one never scanned, the longest overdue."""
        now, clock_ms = self._now(), self._feed.clock.monotonic()
        due = [
            _DueScan(scanner, self._requested.includes_forming(series, clock_ms))
            for series, scanner in self._scanners.items()
            if self._is_due(series, scanner, now)
        ]
        if not due:
            return None
        return min(
            due,
            key=lambda scan: (
                not scan.requested,
                scan.scanner.series in self._scanned_at,
                scan.scanner.schedule.next_scan_at,
            ),
        )

    def _is_due(self, series: Series, scanner: GapScanner, now: int) -> bool:
        if series in self._in_progress:
            return False
        if self._pages.has_pages(series) and now - self._scanned_at[series] < RESCAN_WHILE_FETCHING_MS:
            return False
        trades_again = series in self._halted and self._trades(series)
        return trades_again or scanner.schedule.is_due(now)

    async def _scan(self, scanner: GapScanner) -> None:
        now, series = self._now(), scanner.series
        if self._trades(series):
            self._halted.discard(series)
            result = await scanner.scan(now, self._min_candles, self._streaming_since(now))
        elif series.instrument in self._feed.halted:
            self._halted.add(series)
            now -= ABSENT_AFTER_MS  # so that each kline that the scan misses is final
            result = await scanner.scan(now, self._min_candles)
            scanner.schedule.next_scan_at = now + DAY_MS
        else:
            scanner.schedule.next_scan_at = now + MINUTE_MS
            return
        await self._feed.bus.publish(*result.new_gaps)
        self._pages.put(series, result.to_fetch, now)
        self._report.on_scanned(series, result)
        self._scanned_at[series] = now
        if not result.to_fetch:
            self._retries.forget(series)

    def _streaming_since(self, now: int) -> int:
        """Return since when klines arrive over a socket, by the exchange's clock; `now` if they do not."""
        connection = self._feed.connection
        return self._feed.clocks.exchange.now(connection.streaming_since) if connection.open_sockets else now

    async def _fetch_loop(self) -> None:
        while True:
            self._pages_changed.clear()
            async with self._next_page_lock:
                if (request := self._next_page()) is not None:
                    await self._budget.acquire()
                    request = self._next_page()  # another page may have become more urgent meanwhile
                if request is not None:
                    self._in_progress.add(request.scanner.series)
            if request is None:
                await _wait_or_timeout(self._pages_changed, IDLE_CHECK_SECONDS)
                continue
            series = request.scanner.series
            try:
                await self._fetcher.fetch(request)
            except RestError as error:
                self._on_rest_error(series, error)
            except Unavailable as error:
                self._pause(str(error), 0)
            else:
                self._retries.on_success(series)
            finally:
                self._in_progress.discard(series)
                self._scans_changed.set()
                self._pages_changed.set()

    def _next_page(self) -> PageRequest | None:
        if self._retries.is_paused():
            return None
        clock_ms = self._feed.clock.monotonic()
        best = self._pages.most_urgent(self._now(), clock_ms, self._in_progress, self._retries.may_fetch)
        if best is None:
            return None
        urgency, request = best
        # A series that a requested bar is made of is scanned within a moment, and may have a more urgent page.
        return None if urgency > 0 and self._requested_is_unscanned(clock_ms) else request

    def _requested_is_unscanned(self, clock_ms: int) -> bool:
        return any(
            self._requested.includes_forming(series, clock_ms) and self._trades(series)
            for series in self._scanners.keys() - self._scanned_at.keys()
        )

    def _on_rest_error(self, series: Series, error: RestError) -> None:
        """Back off: an error of one series holds up that series, an error of the exchange all of them."""
        self._retries.on_series_error(series, error)
        self._report.changed = True
        if error.request_specific and not error.retry_after:
            log.warning("%s: no candles of %s %s: %s", *series, error.reason)
        else:
            self._pause(error.reason, error.retry_after)

    def _pause(self, reason: str, retry_after: float) -> None:
        until = self._retries.pause(reason, retry_after)
        self._report.changed = True
        log.info("%s: the backfill is paused: %s", self._feed.exchange.name, reason)
        asyncio.get_running_loop().call_at(until, self._pages_changed.set)


async def _wait_or_timeout(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
