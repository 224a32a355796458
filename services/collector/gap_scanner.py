"""Finds what one series lacks in the store: what to fetch, and which candle gaps are new."""

from collections.abc import Sequence
from typing import NamedTuple

from services.collector.scan_schedule import SETTLE_MS, ScanSchedule
from services.core import history_depth, ranges
from services.core.bounds import MAX_GAP_CANDLES
from services.core.exchange import Exchange
from services.core.model import CandleGap, CandleGapState, Series
from services.core.ranges import TimeRange
from services.core.timeframes import TIMEFRAMES
from services.ports import CandleReader

ABSENT_AFTER_MS = 600_000  # after a bar's close: a kline that the exchange does not have by then will not come
RECHECK_ABSENT_MS = 86_400_000  # in which full scans fetch absent candles again


class ScanResult(NamedTuple):
    """What a scan found."""

    first_expected: int  # the first open time to store; behind what the exchange does not have
    expected_count: int
    missing: Sequence[TimeRange]  # closed open times without a candle that the exchange should have
    to_fetch: Sequence[TimeRange]
    new_gaps: Sequence[CandleGap]


class _Window(NamedTuple):
    """Open times that a scan is about. `since` is `start` in a full scan."""

    first_stored: int | None
    start: int
    since: int
    until: int


class _Findings(NamedTuple):
    """Open times of a window without a candle, without the exchange's confirmation, and those known to be absent."""

    missing: list[TimeRange]
    unconfirmed: list[TimeRange]
    absent: list[CandleGap]


class GapScanner:
    """Scanner of one series of an exchange that has klines of `timeframes`."""

    def __init__(self, series: Series, store: CandleReader, exchange: Exchange, timeframes: frozenset[str]) -> None:
        self.series, self.timeframe = series, TIMEFRAMES[series.timeframe]
        self.schedule = ScanSchedule(self.timeframe, exchange.kline_delay_seconds)
        self._store, self._exchange, self._timeframes = store, exchange, timeframes

    async def scan(self, now: int, min_candles: int, streaming_since: int = 0) -> ScanResult:
        """Scan, and set when to scan again. `min_candles` are wanted at least.

        Bars that close after `streaming_since` arrive over a socket, so they are given `SETTLE_MS`; earlier ones are
        missing at once.
        """
        full = self.schedule.begin(now)
        window = await self._window(now, min_candles, streaming_since, full)
        findings = await self._find(window)
        complete = not (findings.missing or findings.unconfirmed)
        self.schedule.finish(now, window.until, full=full, complete=complete)
        expected = ranges.subtract(self.timeframe, [(window.start, window.until)], _ranges(findings.absent))
        return ScanResult(
            expected[0][0] if expected else window.until,
            self.timeframe.count_in(expected),
            findings.missing,
            [*findings.missing, *findings.unconfirmed, *(_recheckable(findings.absent, now) if full else ())],
            await self._undetected_gaps(findings.missing, window.first_stored, now),
        )

    def forming_since(self, now: int) -> int:
        """Return the first open time whose bar is part of a forming bar that is rolled up."""
        return history_depth.forming_since(self.series.timeframe, now, self._timeframes)

    async def first_stored(self, now: int) -> int | None:
        """Return the first open time in the store."""
        rows = await self._store.candles(self.series, 0, now, 1)
        return rows[0].bar.open_time if rows else None

    async def is_before_first(self, open_time: int, now: int) -> bool:
        """Return whether the store has only newer candles."""
        first = await self.first_stored(now)
        return first is not None and open_time < first

    async def _window(self, now: int, min_candles: int, streaming_since: int, full: bool) -> _Window:
        name, timeframe = self.series.timeframe, self.timeframe
        settled = max(now - SETTLE_MS, min(now, streaming_since))
        until = timeframe.step_back(timeframe.open_time(settled), 1)
        first = await self.first_stored(now)
        wanted = history_depth.first_wanted(self._exchange, name, until, min_candles, self._timeframes)
        start = min(wanted, until if first is None else first)
        return _Window(first, start, start if full else max(start, self.schedule.complete_until), until)

    async def _find(self, window: _Window) -> _Findings:
        since, until = window.since, window.until
        missing = await self._store.missing_ranges(self.series, since, until)
        unconfirmed = await self._unconfirmed(since, until)
        if not (missing or unconfirmed):
            return _Findings([], [], [])
        absent = await self._store.candle_gaps(CandleGapState.ABSENT, self.series)
        missing, unconfirmed = (
            ranges.subtract(self.timeframe, time_ranges, _ranges(absent)) for time_ranges in (missing, unconfirmed)
        )
        return _Findings(missing, unconfirmed, absent)

    async def _unconfirmed(self, since: int, until: int) -> list[TimeRange]:
        """Return the minutes that are built from trades and that no kline of the exchange has confirmed."""
        if self.timeframe.child:
            return []
        return await self._store.unconfirmed_ranges(self.series, since, until)

    async def _undetected_gaps(
        self, missing: Sequence[TimeRange], first_stored: int | None, now: int
    ) -> list[CandleGap]:
        """Return the gaps between stored candles that are not in the store yet."""
        if not missing or first_stored is None:
            return []
        # Without a stream of trades the newest klines arrive by polling alone, some time after the close.
        overdue = now if self._exchange.refetch_trades is not None else now - ABSENT_AFTER_MS
        late = [span for span in missing if span[0] > first_stored and self.timeframe.close_time(span[1]) < overdue]
        detected = await self._store.candle_gaps(CandleGapState.OPEN, self.series) if late else []
        undetected = ranges.subtract(self.timeframe, late, _ranges(detected))
        pages = ranges.split(self.timeframe, undetected, MAX_GAP_CANDLES)
        return [CandleGap(self.series, *page, detected=now) for page in pages]


def _ranges(gaps: Sequence[CandleGap]) -> list[TimeRange]:
    return [(gap.since, gap.until) for gap in gaps]


def _recheckable(absent: Sequence[CandleGap], now: int) -> list[TimeRange]:
    """Return the absent ranges that the exchange may still get."""
    return _ranges([gap for gap in absent if now - (gap.resolved or 0) < RECHECK_ABSENT_MS])
