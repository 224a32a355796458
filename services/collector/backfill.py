"""Keeps the store complete: what is missing is asked of the exchange, and sent to the store behind what is live.

What is forming now comes first, then what somebody waits for, then the newest of all series, the longest bars first.
All it knows of its progress is in the store, so that it goes on after any end.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import NamedTuple

from services.collector.exchange_feed import ExchangeFeed
from services.collector.gap_scanner import FINAL_AFTER_MS, MAX_RETRY_SECONDS, GapScanner
from services.collector.request_weight import RequestWeightBudget
from services.collector.requested_history import RequestedHistory
from services.collector.rest_client import RestClient, RestError
from services.core import ranges
from services.core.backoff import delays
from services.core.bounds import MAX_GAP_CANDLES
from services.core.errors import Unavailable
from services.core.model import (
    BackfillProgress,
    CandleGap,
    CandleGapState,
    HistoryRequest,
    Kline,
    Series,
    SeriesProgress,
)
from services.core.ranges import TimeRange
from services.core.timeframes import DAY_MS, MINUTE_MS, TIMEFRAMES
from services.ports import CandleReader, Deps

RECENT_MS = 1_800_000  # ms; what is missing since then goes before what is older
MAX_REQUESTS_IN_FLIGHT = 3  # requests at once; their answers go to the store one after the other
SCAN_REST_FACTOR = (
    3  # times as long as a look has taken, before the next that nobody waits for: what is live goes first
)
RESCAN_WHILE_FETCHING_MS = 60_000  # ms before a series is looked at again while pages of it are still to be fetched
STORE_TIMEOUT_SECONDS = 60  # seconds in which a page should reach the store
MAX_CONCURRENT_PAGE_CANDLES = 100  # candles, of which several pages may be on their way at once
IDLE_CHECK_SECONDS = 1.0  # seconds between two looks for something to do, when nothing tells of it
PROGRESS_INTERVAL_SECONDS = 0.5  # seconds between two reports of progress
MAX_LISTED_SERIES = 200  # series whose progress is reported one by one
log = logging.getLogger(__name__)


class _SeriesFailure(NamedTuple):
    """A series that the exchange does not answer about, while it answers about others."""

    reason: str
    retry_at: float  # by the loop's clock
    delays: Iterator[float]


class _PageRequest(NamedTuple):
    scanner: GapScanner
    page: TimeRange


class Backfill:
    """The history of all instruments of one exchange."""

    def __init__(self, feed: ExchangeFeed, rest_client: RestClient, deps: Deps) -> None:
        self._feed, self._rest_client, self._deps = feed, rest_client, deps
        self._exchange = feed.exchange
        self._store: CandleReader = deps.store  # all that a collector without a database can read
        self._budget = RequestWeightBudget(feed.exchange, deps.cache, feed.exchange_now, feed.clock)
        given = {instrument: feed.exchange.kline_timeframes(instrument) for instrument in feed.instruments}
        self._scanners = {
            (series := Series(feed.exchange.name, instrument, name)): GapScanner(
                series, self._store, feed.exchange, frames
            )
            for name in reversed(TIMEFRAMES)  # so that nothing rolled up precedes the exchange's own word
            for instrument, frames in given.items()
            if name in frames
        }
        self._series_order = {series: place for place, series in enumerate(self._scanners)}
        self._requested = RequestedHistory(feed.exchange.name, given)
        self._pages_to_fetch: dict[Series, list[TimeRange]] = {}  # that are to be asked for, the newest first
        self._in_progress: set[Series] = set()  # that are looked at, or of which a page is on its way
        self._missing: dict[Series, list[TimeRange]] = {}
        self._expected: dict[Series, tuple[int, int]] = {}  # the first opening, and how many candles
        self._scanned_at: dict[Series, int] = {}  # when each was looked at
        self._not_trading: set[Series] = set()  # that are looked at seldom, as long as they are not traded
        self._failures: dict[Series, _SeriesFailure] = {}
        self._paused_until, self._pause_reason = 0.0, ""  # by the loop's clock; why nothing is asked
        self._pause_delays = delays(1, 60)  # of the whole exchange
        self._pages_changed, self._scans_changed, self._next_page_lock = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Lock(),
        )
        self._large_page_lock = asyncio.Lock()
        self._progress_changed = False

    def _now(self) -> int:
        """The time that tells which bars are closed."""
        return self._feed.exchange_now()

    async def run(self) -> None:
        """Look and ask, for ever."""
        if not self._scanners:
            return
        self._in_progress.clear()  # of an attempt that broke
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consume_requests())
            group.create_task(self._report_progress())
            await self._feed.instruments_known.wait()
            group.create_task(self._scan_loop())
            for _ in range(MAX_REQUESTS_IN_FLIGHT):
                group.create_task(self._fetch_loop())

    async def _consume_requests(self) -> None:
        async with self._feed.bus.subscribe(HistoryRequest) as messages:
            async for message in messages:
                if isinstance(message, HistoryRequest) and self._requested.add(message, self._feed.clock.monotonic()):
                    self._scans_changed.set()
                    self._pages_changed.set()

    async def _report_progress(self) -> None:
        while True:
            if self._progress_changed:
                self._progress_changed = False
                before, self._feed.backfill_progress = self._feed.backfill_progress, self._current_progress()
                if (
                    before and before.incomplete and not self._feed.backfill_progress.incomplete
                ):  # series without a first look are listed
                    log.info("%s: all %d candles are there", self._exchange.name, self._feed.backfill_progress.expected)
            await self._feed.clock.sleep(PROGRESS_INTERVAL_SECONDS)

    def _current_progress(self) -> BackfillProgress:
        loading = [
            self._series_progress(series)
            for series in self._scanners
            if series.instrument in self._feed.tracker and self._missing.get(series, True)
        ]
        return BackfillProgress(
            sum(expected for _, expected in self._expected.values()),
            sum(self._scanners[series].timeframe.count_in(runs) for series, runs in self._missing.items()),
            tuple(loading[:MAX_LISTED_SERIES]),
            len(loading[MAX_LISTED_SERIES:]),
            self._pause_reason if asyncio.get_running_loop().time() < self._paused_until else "",
        )

    def _series_progress(self, series: Series) -> SeriesProgress:
        since, expected = self._expected.get(series, (0, 0))
        missing = self._scanners[series].timeframe.count_in(self._missing.get(series, ()))
        failure = self._failures.get(series)
        return SeriesProgress(*series[1:], since, expected, missing, failure.reason if failure else "")

    async def _scan_loop(self) -> None:
        """Look for what is missing, beside fetching it."""
        pauses = delays(1, 60)
        while True:
            self._scans_changed.clear()
            if not (due := self._next_scan()):
                await _wait_or_timeout(self._scans_changed, IDLE_CHECK_SECONDS)
                continue
            wanted, backlog = due
            began = self._feed.clock.monotonic()
            self._in_progress.add(backlog.series)
            try:
                await self._rest_client.ensure_exchange_clock()
                await self._scan_series(backlog)
            except RestError as error:
                self._pause(error.reason, error.retry_after)
                await self._feed.clock.sleep(max(next(pauses), error.retry_after))
                continue
            except Unavailable as error:
                log.info("%s: looking for missing candles waits: %s", self._exchange.name, error)
                await self._feed.clock.sleep(next(pauses))
                continue
            finally:
                self._in_progress.discard(backlog.series)
                self._pages_changed.set()
            pauses = delays(1, 60)
            if not wanted:
                await _wait_or_timeout(
                    self._scans_changed, SCAN_REST_FACTOR * (self._feed.clock.monotonic() - began) / 1000
                )

    def _next_scan(self) -> tuple[bool, GapScanner] | None:
        """What is to be looked at now, and whether somebody waits for it."""
        now, clock = self._now(), self._feed.clock.monotonic()
        due = [
            (
                (not self._requested.includes_forming(series, clock), series in self._scanned_at, backlog.next_scan_at),
                backlog,
            )
            for series, backlog in self._scanners.items()
            if (backlog.is_due(now) or (series in self._not_trading and series.instrument in self._feed.tracker))
            and series not in self._in_progress
            and not (self._pages_to_fetch.get(series) and now - self._scanned_at[series] < RESCAN_WHILE_FETCHING_MS)
        ]
        if not due:
            return None
        (unwanted, *_), backlog = min(due, key=lambda each: each[0])
        return not unwanted, backlog

    async def _scan_series(self, scanner: GapScanner) -> None:
        now, series = self._now(), scanner.series
        if traded := series.instrument in self._feed.tracker:
            self._not_trading.discard(series)
        elif series.instrument in self._feed.halted:
            self._not_trading.add(series)
            now -= FINAL_AFTER_MS  # what it does not have by then it will not have
        else:
            scanner.next_scan_at = now + MINUTE_MS
            return
        link = self._feed.connection
        streaming = self._feed.exchange_clock.now(link.streaming_since) if link.open_sockets else now
        found = await scanner.scan(now, self._deps.settings.history_bars, streaming if traded else 0)
        if not traded:
            scanner.next_scan_at = now + DAY_MS
        await self._feed.bus.publish(*found.new_gaps)
        self._pages_to_fetch[series] = self._split_into_pages(scanner, found.to_fetch, now)
        self._missing[series], self._expected[series] = (
            list(found.missing),
            (found.first_expected, found.expected_count),
        )
        self._scanned_at[series], self._progress_changed = now, True
        if not found.to_fetch:
            self._failures.pop(series, None)

    def _split_into_pages(self, scanner: GapScanner, wanted: Sequence[TimeRange], now: int) -> list[TimeRange]:
        """As few pages as can be, the bars that are part of a forming one apart: it waits for them."""
        timeframe, split = scanner.timeframe, scanner.forming_since(now)
        if not self._exchange.kline_days:  # else each answer is all that there is
            wanted = [part for run in wanted for part in _split_at(timeframe.step_back(split, 1), split, run)]
        return ranges.split(timeframe, wanted, self._exchange.klines_per_call)

    async def _fetch_loop(self) -> None:
        """Ask for one page after the other."""
        while True:
            self._pages_changed.clear()
            async with self._next_page_lock:
                if (page := self._next_page()) is not None:
                    await self._budget.acquire()
                    page = self._next_page()  # what has become more urgent meanwhile
                if page is not None:
                    self._in_progress.add(page.scanner.series)
            if page is None:
                await _wait_or_timeout(self._pages_changed, IDLE_CHECK_SECONDS)
                continue
            series = page.scanner.series
            try:
                await self._fetch_page(page)
            except RestError as error:
                self._on_rest_error(page, error)
            except Unavailable as error:
                self._pause(str(error), 0)
            else:
                self._pause_delays = delays(1, 60)
                self._failures.pop(series, None)
            finally:
                self._in_progress.discard(series)
                self._scans_changed.set()
                self._pages_changed.set()

    def _next_page(self) -> _PageRequest | None:
        now, clock, time = self._now(), self._feed.clock.monotonic(), asyncio.get_running_loop().time()
        best: tuple[tuple[int, int, int], _PageRequest] | None = None
        if time < self._paused_until:
            return None
        for series, pages in self._pages_to_fetch.items():
            failure = self._failures.get(series)
            if not pages or series in self._in_progress or (failure and time < failure.retry_at):
                continue
            backlog = self._scanners[series]
            wanted = next((p for p, run in enumerate(pages) if self._requested.includes(series, run, clock)), 0)
            for place in {0, wanted}:
                rank = self._urgency(backlog, pages[place], now, clock), place, self._series_order[series]
                if best is None or rank < best[0]:
                    best = rank, _PageRequest(backlog, pages[place])
        if best and best[0][0] and any(self._requested_unscanned(clock)):
            return None  # what is more urgent is found in a moment
        return best and best[1]

    def _requested_unscanned(self, clock: int) -> Iterator[bool]:
        """Series that a requested bar is made of, and that nobody has looked at yet."""
        return (
            self._requested.includes_forming(series, clock) and series.instrument in self._feed.tracker
            for series in self._scanners.keys() - self._scanned_at.keys()
        )

    def _urgency(self, scanner: GapScanner, page: TimeRange, now: int, clock: int) -> int:
        forming = page[1] >= scanner.forming_since(now)
        if forming and self._requested.includes_forming(scanner.series, clock):
            return 0
        if self._requested.includes(scanner.series, page, clock):
            return 1
        return 2 if forming or now - page[0] < RECENT_MS else 3

    async def _fetch_page(self, page: _PageRequest) -> None:
        """Ask for a page, and have it saved: the next goes when this one is, so that the bus never fills with it."""
        backlog, run = page
        series, now = backlog.series, self._now()
        klines = await self._request_klines(series, run)
        async with self._large_page_lock if len(klines) > MAX_CONCURRENT_PAGE_CANDLES else nullcontext():
            await self._feed.bus.publish(*klines)
            older = [each for each in self._pages_to_fetch[series] if each < run]
            if older and not klines and await backlog.is_before_first(run[1], now):
                run = older[-1][0], run[1]  # when nothing comes there is nothing older either
            absent = _absent_gaps(backlog, run, klines, now)
            await self._feed.bus.publish(*absent)
            if klines:
                await self._wait_until_stored(klines[-1])
        self._on_page_stored(backlog, run, absent)

    def _on_page_stored(self, scanner: GapScanner, page: TimeRange, absent: Sequence[CandleGap]) -> None:
        """What is left to do. What the exchange does not have is not expected any more."""
        series, timeframe = scanner.series, scanner.timeframe
        self._pages_to_fetch[series] = [
            each for each in self._pages_to_fetch[series] if each[1] < page[0] or each[0] > page[1]
        ]
        missing, (since, expected) = self._missing[series], self._expected[series]
        wanted = ranges.subtract(timeframe, missing, [(hole.since, hole.until) for hole in absent])
        expected -= timeframe.count_in(missing) - timeframe.count_in(wanted)
        if absent and absent[0].since <= since:
            since = timeframe.close_time(absent[0].until)
        self._expected[series], self._progress_changed = (since, expected), True
        self._missing[series] = ranges.subtract(timeframe, wanted, [page])

    async def _wait_until_stored(self, newest: Kline) -> None:
        """Wait until a page is in the store, or for so long that it may never be."""
        opening = newest.bar.open_time
        with suppress(TimeoutError):
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                for pause in delays(0.02, 0.2):
                    found = await self._store.candles(newest.series, opening, opening)
                    # one that was rolled up may have been there before: only what this page brought is of its source
                    if found and found[0].closed and found[0].source is newest.source:
                        return
                    await self._feed.clock.sleep(pause)

    async def _request_klines(self, series: Series, page: TimeRange) -> list[Kline]:
        """What the exchange has of a page. Raises NoAnswer."""
        exchange = self._exchange
        ask = exchange.klines and exchange.klines(series.instrument, series.timeframe, *page)
        if ask is None:
            raise ValueError(f"{exchange.name} has no candles of {series.instrument} {series.timeframe}")
        events = await self._rest_client.get(ask)
        return [event for event in events if isinstance(event, Kline) and page[0] <= event.bar.open_time <= page[1]]

    def _on_rest_error(self, page: _PageRequest, error: RestError) -> None:
        """What is wrong with one series stops that one; what is wrong with the exchange stops all of it for a while."""
        series, loop = page.scanner.series, asyncio.get_running_loop()
        before = self._failures.get(series)
        # An exchange that does not answer may do so soon; where calls are dear, a refusal is believed for longer.
        first = max(15, self._exchange.kline_delay_seconds / 100) if error.request_specific else 1
        pauses = before.delays if before else delays(first, max(MAX_RETRY_SECONDS, self._exchange.kline_delay_seconds))
        self._failures[series] = _SeriesFailure(error.reason, loop.time() + next(pauses), pauses)
        self._progress_changed = True
        if error.request_specific and not error.retry_after:
            log.warning("%s: no candles of %s %s: %s", *series, error.reason)
            return
        self._pause(error.reason, error.retry_after)

    def _pause(self, reason: str, retry_after: float) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._paused_until:  # of several that fail together one counts
            retry_after = max(next(self._pause_delays), retry_after)
        self._paused_until, self._pause_reason = max(self._paused_until, loop.time() + retry_after), reason
        self._progress_changed = True
        log.info("%s: the history waits: %s", self._exchange.name, reason)
        loop.call_at(self._paused_until, self._pages_changed.set)


async def _wait_or_timeout(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but no longer than so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _split_at(before: int, first: int, run: TimeRange) -> list[TimeRange]:
    """A run as its parts up to one opening and from the next one on."""
    return [run] if not run[0] < first <= run[1] else [(run[0], before), (first, run[1])]


def _absent_gaps(scanner: GapScanner, page: TimeRange, klines: Sequence[Kline], now: int) -> list[CandleGap]:
    """What the exchange does not have, although it should: it will not have it later."""
    timeframe, have = scanner.timeframe, {kline.bar.open_time for kline in klines}
    absent = (
        o for o in timeframe.open_times(*page) if o not in have and timeframe.close_time(o) < now - FINAL_AFTER_MS
    )
    parts = ranges.split(timeframe, ranges.from_open_times(timeframe, absent), MAX_GAP_CANDLES)
    return [CandleGap(scanner.series, *part, now, CandleGapState.ABSENT, now) for part in parts]
