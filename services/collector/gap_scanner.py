"""What of one series is missing in the store, and when to look again."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.core import history_depth, ranges
from services.core.backoff import delays
from services.core.bounds import MAX_GAP_CANDLES
from services.core.clocks import WARNING_OFFSET_MS
from services.core.exchange import Exchange
from services.core.model import CandleGap, CandleGapState, Series
from services.core.ranges import TimeRange
from services.core.timeframes import TIMEFRAMES
from services.ports import CandleReader

SETTLE_MS = 10_000  # ms after a bar's close in which it may still come by itself
ROLLUP_SETTLE_FACTOR = 3  # times as long for bars that are rolled up from others
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 3, 600  # seconds before what is missing is asked for again
FINAL_AFTER_MS = 600_000  # ms after a bar's close; what the exchange does not have then, it does not have
FULL_SCAN_INTERVAL_MS = 3_600_000  # ms between two looks at all that is kept
RECHECK_ABSENT_MS = 86_400_000  # ms in which what was absent is asked for again, at such a look


class ScanResult(NamedTuple):
    """What a look found."""

    first_expected: int  # the first opening that should be kept: what the exchange does not have is left out
    expected_count: int
    missing: Sequence[TimeRange]  # closed openings without a candle, that the exchange should have
    to_fetch: Sequence[TimeRange]  # what to ask the exchange for
    new_gaps: Sequence[CandleGap]  # that nobody has noticed yet


class GapScanner:
    """One series of an exchange that has candles of the `given` timeframes."""

    def __init__(self, series: Series, store: CandleReader, exchange: Exchange, timeframes: frozenset[str]) -> None:
        self.series, self.timeframe = series, TIMEFRAMES[series.timeframe]
        self.next_scan_at = 0  # when to look next
        self._store, self._exchange, self._timeframes = store, exchange, timeframes
        self._last_scan_at = 0  # when it was looked at
        self._last_full_scan_at = self._complete_until = 0  # when everything was looked at; up to where all is well
        self._retry_delays: Iterator[float] | None = None

    async def scan(self, now: int, min_candles: int, streaming_since: int = 0) -> ScanResult:
        """Find out what is missing, and set when to look again. `bars` are to be kept at least.

        `streaming`: since when bars come by themselves as they close; what closed before that does not.
        """
        if self._clock_went_back(now):
            self._last_full_scan_at = self._complete_until = 0
        self._last_scan_at = now
        ripe = max(now - SETTLE_MS, min(now, streaming_since))
        until, whole = (
            self.timeframe.step_back(self.timeframe.open_time(ripe), 1),
            now - self._last_full_scan_at >= FULL_SCAN_INTERVAL_MS,
        )
        first = await self.first_stored(now)
        due = history_depth.first_wanted(self._exchange, self.series.timeframe, until, min_candles, self._timeframes)
        start = min(due, until if first is None else first)
        since = start if whole else max(start, self._complete_until)
        missing = await self._store.missing_ranges(self.series, since, until)
        doubtful = await self._unconfirmed(since, until)
        absent = await self._gaps(CandleGapState.ABSENT) if missing or doubtful else []
        hopeless = [(hole.since, hole.until) for hole in absent]
        missing, doubtful = (ranges.subtract(self.timeframe, some, hopeless) for some in (missing, doubtful))
        again = [(h.since, h.until) for h in absent if whole and now - (h.resolved or 0) < RECHECK_ABSENT_MS]
        self._schedule_next_scan(not (missing or doubtful), now, until)
        self._last_full_scan_at = now if whole and not (missing or doubtful) else self._last_full_scan_at
        holes = await self._undetected_gaps(missing, first, now) if missing else []
        there = ranges.subtract(self.timeframe, [(start, until)], hopeless)
        return ScanResult(
            there[0][0] if there else until,
            self.timeframe.count_in(there),
            missing,
            [*missing, *doubtful, *again],
            holes,
        )

    def is_due(self, now: int) -> bool:
        """Whether to look. Where the exchange's time is not what it seemed, what was seen before says nothing."""
        return self.next_scan_at <= now or self._clock_went_back(now)

    def _clock_went_back(self, now: int) -> bool:
        return now < self._last_scan_at - WARNING_OFFSET_MS

    def forming_since(self, now: int) -> int:
        """The first opening whose bar is part of one that is forming now, and is rolled up."""
        return history_depth.forming_since(self.series.timeframe, now, self._timeframes)

    def _schedule_next_scan(self, complete: bool, now: int, until: int) -> None:
        if complete:
            self._retry_delays, self._complete_until = None, until
            settling = SETTLE_MS * (ROLLUP_SETTLE_FACTOR if self.timeframe.child else 1)
            closing = self.timeframe.close_time(self.timeframe.open_time(now - settling))
            self.next_scan_at = max(closing + settling, now + int(self._exchange.kline_delay_seconds * 1000))
            return
        self._retry_delays = self._retry_delays or delays(
            FIRST_RETRY_SECONDS, max(MAX_RETRY_SECONDS, self._exchange.kline_delay_seconds)
        )
        self.next_scan_at = now + int(next(self._retry_delays) * 1000)

    async def first_stored(self, now: int) -> int | None:
        """The first opening that is kept."""
        found = await self._store.candles(self.series, 0, now, 1)
        return found[0].bar.open_time if found else None

    async def is_before_first(self, open_time: int, now: int) -> bool:
        """Whether nothing as old as that is kept."""
        first = await self.first_stored(now)
        return first is not None and open_time < first

    async def _unconfirmed(self, since: int, until: int) -> list[TimeRange]:
        """Minutes that no word of the exchange has confirmed."""
        if self.timeframe.child:
            return []
        return await self._store.unconfirmed_ranges(self.series, since, until)

    async def _gaps(self, state: CandleGapState) -> list[CandleGap]:
        return await self._store.candle_gaps(state, self.series)

    async def _undetected_gaps(self, missing: Sequence[TimeRange], first: int | None, now: int) -> list[CandleGap]:
        """What is missing between candles that are kept, and should not be."""
        streamed = self._exchange.refetch_trades is not None  # else the newest bars come by asking alone
        limit = now if streamed else now - FINAL_AFTER_MS
        late = [
            run for run in missing if first is not None and run[0] > first and self.timeframe.close_time(run[1]) < limit
        ]
        known = [(hole.since, hole.until) for hole in await self._gaps(CandleGapState.OPEN)] if late else []
        unknown = ranges.subtract(self.timeframe, late, known)
        return [
            CandleGap(self.series, *run, detected=now) for run in ranges.split(self.timeframe, unknown, MAX_GAP_CANDLES)
        ]
