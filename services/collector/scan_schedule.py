"""When one series is scanned for missing candles, and whether all of it. Times are ms of the exchange's clock."""

from collections.abc import Iterator
from enum import Enum, auto

from services.core.backoff import delays
from services.core.clocks import WARNING_OFFSET_MS
from services.core.timeframes import Timeframe

SETTLE_MS = 10_000  # after a bar's close, in which the exchange may still send it
ROLLUP_SETTLE_FACTOR = 3  # of SETTLE_MS, for bars that are rolled up from others
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 3, 600  # between scans of an incomplete series
FULL_SCAN_INTERVAL_MS = 3_600_000


class ScanState(Enum):
    """What the scans so far have shown."""

    UNVERIFIED = auto()  # no full scan has found the series complete: the next one is full
    COMPLETE = auto()
    INCOMPLETE = auto()  # candles are missing that came after a full scan: it is scanned again at growing intervals


class ScanEvent(Enum):
    """What changes the state."""

    FOUND_COMPLETE = auto()
    FOUND_INCOMPLETE = auto()
    CLOCK_WENT_BACK = auto()  # earlier scans went by a wrong time of the exchange


def next_state(state: ScanState, event: ScanEvent) -> ScanState:
    """Return the state after an event."""
    match event:
        case ScanEvent.CLOCK_WENT_BACK:
            return ScanState.UNVERIFIED
        case ScanEvent.FOUND_COMPLETE:
            return ScanState.COMPLETE
        case ScanEvent.FOUND_INCOMPLETE:
            return ScanState.UNVERIFIED if state is ScanState.UNVERIFIED else ScanState.INCOMPLETE


class ScanSchedule:
    """Schedule of one series. `min_pause_seconds`: how long after a bar's close the exchange offers its kline."""

    def __init__(self, timeframe: Timeframe, min_pause_seconds: float) -> None:
        self._timeframe, self._min_pause = timeframe, min_pause_seconds
        self.state = ScanState.UNVERIFIED
        self.next_scan_at = 0
        self.complete_until = 0  # open time up to which the last complete scan found everything
        self._last_scan_at = self._last_full_scan_at = 0  # of full scans those that found everything
        self._retry_delays: Iterator[float] | None = None

    def is_due(self, now: int) -> bool:
        """Return whether to scan. A clock that went back makes earlier scans worthless."""
        return self.next_scan_at <= now or self._clock_went_back(now)

    def begin(self, now: int) -> bool:
        """Begin a scan. Return whether it has to be a full one."""
        if self._clock_went_back(now):
            self.state = next_state(self.state, ScanEvent.CLOCK_WENT_BACK)
        self._last_scan_at = now
        return self.state is ScanState.UNVERIFIED or now - self._last_full_scan_at >= FULL_SCAN_INTERVAL_MS

    def finish(self, now: int, until: int, *, full: bool, complete: bool) -> None:
        """Set the next scan. `until` is the last open time that was scanned."""
        event = ScanEvent.FOUND_COMPLETE if complete else ScanEvent.FOUND_INCOMPLETE
        self.state = next_state(self.state, event)
        if complete:
            self._retry_delays, self.complete_until = None, until
            self._last_full_scan_at = now if full else self._last_full_scan_at
            self.next_scan_at = max(self._next_settled(now), now + int(self._min_pause * 1000))
        else:
            self._retry_delays = self._retry_delays or delays(
                FIRST_RETRY_SECONDS, max(MAX_RETRY_SECONDS, self._min_pause)
            )
            self.next_scan_at = now + int(next(self._retry_delays) * 1000)

    def _next_settled(self, now: int) -> int:
        """When the next bar to close has had its time to arrive."""
        settle = SETTLE_MS * (ROLLUP_SETTLE_FACTOR if self._timeframe.child else 1)
        return self._timeframe.close_time(self._timeframe.open_time(now - settle)) + settle

    def _clock_went_back(self, now: int) -> bool:
        return now < self._last_scan_at - WARNING_OFFSET_MS
