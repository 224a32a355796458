"""How much of each series is in the store, for the exchange's status."""

from collections.abc import Sequence

from services.collector.fetch_retries import FetchRetries
from services.collector.gap_scanner import GapScanner, ScanResult
from services.core import ranges
from services.core.model import BackfillProgress, CandleGap, Series, SeriesProgress
from services.core.ranges import TimeRange
from services.core.timeframes import TIMEFRAMES

MAX_LISTED_SERIES = 200


class BackfillReport:
    """Expected and missing candles of the series that were scanned."""

    def __init__(self) -> None:
        self._missing: dict[Series, list[TimeRange]] = {}
        self._expected: dict[Series, tuple[int, int]] = {}  # the first open time, and how many candles
        self.changed = False  # since the last `progress`

    def on_scanned(self, series: Series, result: ScanResult) -> None:
        """Take over what a scan found."""
        self._missing[series] = list(result.missing)
        self._expected[series] = result.first_expected, result.expected_count
        self.changed = True

    def on_page(self, scanner: GapScanner, page: TimeRange, absent: Sequence[CandleGap]) -> None:
        """Take a page off what is missing, and what the exchange does not have off what is expected."""
        series, timeframe = scanner.series, scanner.timeframe
        missing, (since, expected) = self._missing[series], self._expected[series]
        obtainable = ranges.subtract(timeframe, missing, [(gap.since, gap.until) for gap in absent])
        expected -= timeframe.count_in(missing) - timeframe.count_in(obtainable)
        if absent and absent[0].since <= since:
            since = timeframe.close_time(absent[0].until)
        self._expected[series], self.changed = (since, expected), True
        self._missing[series] = ranges.subtract(timeframe, obtainable, [page])

    def progress(self, scanners: Sequence[GapScanner], retries: FetchRetries) -> BackfillProgress:
        """Return the progress of all series; `scanners` are those of the instruments that trade.

        A series that was not scanned yet counts as incomplete.
        """
        self.changed = False
        incomplete = [
            self._series_progress(scanner, retries) for scanner in scanners if self._missing.get(scanner.series, True)
        ]
        return BackfillProgress(
            sum(count for _, count in self._expected.values()),
            sum(TIMEFRAMES[series.timeframe].count_in(spans) for series, spans in self._missing.items()),
            tuple(incomplete[:MAX_LISTED_SERIES]),
            len(incomplete[MAX_LISTED_SERIES:]),
            retries.pause_reason,
        )

    def _series_progress(self, scanner: GapScanner, retries: FetchRetries) -> SeriesProgress:
        series = scanner.series
        since, expected = self._expected.get(series, (0, 0))
        missing = scanner.timeframe.count_in(self._missing.get(series, ()))
        return SeriesProgress(*series[1:], since, expected, missing, retries.reason(series))
