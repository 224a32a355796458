"""Pages of missing candles that are to be fetched, the most urgent first."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from services.collector.gap_scanner import GapScanner
from services.collector.requested_history import RequestedHistory
from services.core import ranges
from services.core.exchange import Exchange
from services.core.model import Series
from services.core.ranges import TimeRange

RECENT_MS = 1_800_000  # a page that begins within this time goes before older ones


class PageRequest(NamedTuple):
    """A page of one series."""

    scanner: GapScanner
    page: TimeRange


class _Rank(NamedTuple):
    """Order of a page: the lowest is fetched first."""

    urgency: int  # 0: a requested bar that is forming is made of it; 1: requested; 2: forming or recent; 3: the rest
    page_index: int  # in the pages of its series, the newest first
    series_index: int


class PageQueue:
    """Pages of all series of one exchange."""

    def __init__(self, exchange: Exchange, scanners: Mapping[Series, GapScanner], requested: RequestedHistory) -> None:
        self._exchange, self._scanners, self._requested = exchange, scanners, requested
        self._series_index = {series: index for index, series in enumerate(scanners)}
        self._pages: dict[Series, list[TimeRange]] = {}  # the newest first

    def has_pages(self, series: Series) -> bool:
        """Return whether pages of a series are waiting."""
        return bool(self._pages.get(series))

    def put(self, series: Series, time_ranges: Sequence[TimeRange], now: int) -> None:
        """Replace the pages of a series by as few as cover these ranges.

        Candles that are part of a forming bar get a page of their own, because that bar waits for them.
        """
        scanner = self._scanners[series]
        timeframe, forming_since = scanner.timeframe, scanner.forming_since(now)
        if not self._exchange.kline_days:  # otherwise each answer holds all that there is
            before = timeframe.step_back(forming_since, 1)
            time_ranges = [part for span in time_ranges for part in _split_at(before, forming_since, span)]
        self._pages[series] = ranges.split(timeframe, time_ranges, self._exchange.klines_per_call)

    def older_than(self, series: Series, page: TimeRange) -> list[TimeRange]:
        """Return the waiting pages before a page."""
        return [waiting for waiting in self._pages[series] if waiting < page]

    def remove(self, series: Series, span: TimeRange) -> None:
        """Remove the pages that a range touches."""
        self._pages[series] = [page for page in self._pages[series] if page[1] < span[0] or page[0] > span[1]]

    def most_urgent(
        self, now: int, clock_ms: int, skipped: Collection[Series], may_fetch: Callable[[Series], bool]
    ) -> tuple[int, PageRequest] | None:
        """Return the next page with its urgency (0 to 3). `clock_ms` is the monotonic clock's."""
        candidates = [
            self._best_of(series, pages, now, clock_ms)
            for series, pages in self._pages.items()
            if pages and series not in skipped and may_fetch(series)
        ]
        if not candidates:
            return None
        rank, request = min(candidates, key=lambda candidate: candidate[0])
        return rank.urgency, request

    def _best_of(
        self, series: Series, pages: Sequence[TimeRange], now: int, clock_ms: int
    ) -> tuple[_Rank, PageRequest]:
        """Return the most urgent page of a series: its newest, or the newest that is requested."""
        scanner, order = self._scanners[series], self._series_index[series]
        requested = next((i for i, page in enumerate(pages) if self._requested.includes(series, page, clock_ms)), 0)
        rank = min(_Rank(self._urgency(scanner, pages[i], now, clock_ms), i, order) for i in {0, requested})
        return rank, PageRequest(scanner, pages[rank.page_index])

    def _urgency(self, scanner: GapScanner, page: TimeRange, now: int, clock_ms: int) -> int:
        forming = page[1] >= scanner.forming_since(now)
        if forming and self._requested.includes_forming(scanner.series, clock_ms):
            return 0
        if self._requested.includes(scanner.series, page, clock_ms):
            return 1
        return 2 if forming or now - page[0] < RECENT_MS else 3


def _split_at(before: int, first: int, span: TimeRange) -> list[TimeRange]:
    """Split a range into its open times up to `before` and those from `first`, which follows it."""
    return [span] if not span[0] < first <= span[1] else [(span[0], before), (first, span[1])]
