"""Fetches a page of klines, and publishes it with the gaps that the exchange has no klines for."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext, suppress

from services.collector.backfill_report import BackfillReport
from services.collector.exchange_feed import ExchangeFeed
from services.collector.gap_scanner import ABSENT_AFTER_MS, GapScanner
from services.collector.page_queue import PageQueue, PageRequest
from services.collector.rest_client import RestClient
from services.core import ranges
from services.core.backoff import delays
from services.core.bounds import MAX_GAP_CANDLES
from services.core.model import CandleGap, CandleGapState, Kline, Series
from services.core.ranges import TimeRange
from services.ports import CandleReader

MAX_CONCURRENT_PAGE_CANDLES = 100  # larger pages go to the store one after the other, so that they never fill the bus
STORE_TIMEOUT_SECONDS = 60  # for a page to reach the store


class PageFetcher:
    """Fetches the pages of one exchange."""

    def __init__(
        self,
        feed: ExchangeFeed,
        rest_client: RestClient,
        store: CandleReader,
        pages: PageQueue,
        report: BackfillReport,
    ) -> None:
        self._feed, self._rest_client, self._store = feed, rest_client, store
        self._pages, self._report = pages, report
        self._large_page_lock = asyncio.Lock()

    async def fetch(self, request: PageRequest) -> None:
        """Fetch a page and wait until it is stored, so that pages never fill the bus."""
        scanner, page = request
        series, now = scanner.series, self._feed.clocks.exchange_now()
        klines = await self._request_klines(series, page)
        async with self._large_page_lock if len(klines) > MAX_CONCURRENT_PAGE_CANDLES else nullcontext():
            await self._feed.bus.publish(*klines)
            older = self._pages.older_than(series, page)
            if older and not klines and await scanner.is_before_first(page[1], now):
                page = older[-1][0], page[1]  # an exchange that has nothing of this page has nothing older either
            absent = _absent_gaps(scanner, page, klines, now)
            await self._feed.bus.publish(*absent)
            if klines:
                await self._wait_until_stored(klines[-1])
        self._pages.remove(series, page)
        self._report.on_page(scanner, page, absent)

    async def _wait_until_stored(self, newest: Kline) -> None:
        """Wait until a page's newest kline is stored, but not for ever: the store may have dropped it."""
        open_time = newest.bar.open_time
        with suppress(TimeoutError):
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                for pause in delays(0.02, 0.2):
                    rows = await self._store.candles(newest.series, open_time, open_time)
                    # A roll-up may have been stored before: only a candle from this page has the kline's source.
                    if rows and rows[0].closed and rows[0].source is newest.source:
                        return
                    await self._feed.clock.sleep(pause)

    async def _request_klines(self, series: Series, page: TimeRange) -> list[Kline]:
        """Return the exchange's klines of a page. Raises RestError."""
        exchange = self._feed.exchange
        call = exchange.klines and exchange.klines(series.instrument, series.timeframe, *page)
        if call is None:
            raise ValueError(f"{exchange.name} has no candles of {series.instrument} {series.timeframe}")
        events = await self._rest_client.get(call)
        return [event for event in events if isinstance(event, Kline) and page[0] <= event.bar.open_time <= page[1]]


def _absent_gaps(scanner: GapScanner, page: TimeRange, klines: Sequence[Kline], now: int) -> list[CandleGap]:
    """Return the gaps of a page that are final, because the exchange does not have these klines by now."""
    timeframe, received = scanner.timeframe, {kline.bar.open_time for kline in klines}
    absent = (
        open_time
        for open_time in timeframe.open_times(*page)
        if open_time not in received and timeframe.close_time(open_time) < now - ABSENT_AFTER_MS
    )
    parts = ranges.split(timeframe, ranges.from_open_times(timeframe, absent), MAX_GAP_CANDLES)
    return [CandleGap(scanner.series, *part, now, CandleGapState.ABSENT, now) for part in parts]
