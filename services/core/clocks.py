"""How clocks differ: steps of our wall clock, and the offset of an exchange's clock. Times in ms."""

from collections import deque
from typing import NamedTuple

STEP_MS = 1_000  # a wall clock that moved that far between two checks was set, not slewed
MAX_OFFSET_ERROR_MS = 100  # between stamps and the wall clock; beyond it they follow the clock
MAX_SAMPLES = 9  # of an exchange's clock
EVENT_SPACING_MS = 1_000  # between two events that are samples
MAX_LATENCY_MS = 1_000  # an event is usually no older when it arrives, nor is a `Date`, which has whole seconds
WARNING_OFFSET_MS = 2_000  # from which on a difference is logged


class StepDetector:
    """Steps of a wall clock, which a monotonic clock does not make."""

    def __init__(self, wall: int, monotonic: int) -> None:
        self._first = self._last = wall - monotonic

    @property
    def offset(self) -> int:
        """By how much the wall clock has moved against the monotonic one since the start."""
        return self._last - self._first

    def update(self, wall: int, monotonic: int) -> int:
        """Return by how much the wall clock was set since the last update; negative: back; 0: it was not set."""
        moved = wall - monotonic - self._last
        self._last += moved
        return moved if abs(moved) >= STEP_MS else 0


class WallClockOffset:
    """The wall time of monotonic times: an offset that changes only when the wall clock was set."""

    def __init__(self, wall_time: int, monotonic: int) -> None:
        self.offset = wall_time - monotonic

    def update(self, wall: int, monotonic: int) -> int:
        """Follow the wall clock; return by how much stamps change."""
        moved = wall - monotonic - self.offset
        if abs(moved) < MAX_OFFSET_ERROR_MS:
            return 0
        self.offset += moved
        return moved

    def wall_time(self, monotonic: int) -> int:
        """Return the wall time of a monotonic time."""
        return monotonic + self.offset


class _Sample(NamedTuple):
    """Bounds of the exchange's clock minus our monotonic one."""

    lower: int
    upper: int


class ExchangeClock:
    """An exchange's clock as an offset to our monotonic one, which stays when our wall clock is set.

    The offset is where most of the last samples agree, so that one wrong header or event changes nothing, and at the
    low end of that, so that no candle is taken for closed too early. Until the first sample it is an assumption.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.is_known = False
        self._samples = deque[_Sample](maxlen=MAX_SAMPLES)
        self.next_event_at = 0  # when the next event counts

    def now(self, monotonic: int) -> int:
        """Return the exchange's time at a monotonic time."""
        return monotonic + self.offset

    def assume(self, offset: int) -> None:
        """Set the offset while there is no sample."""
        if not self.is_known:
            self.offset = offset

    def on_response(self, date: int, age: int, requested: int, monotonic: int) -> None:
        """Add a response with that `Date` and `Age` (ms), to what was `requested`, that came at `monotonic`."""
        self._add_sample(_Sample(date - monotonic, date + MAX_LATENCY_MS + age - requested))

    def on_event(self, time: int | None, monotonic: int) -> None:
        """Add an event of that time, if it has one; one a second is enough."""
        if monotonic >= self.next_event_at and time is not None:
            self.next_event_at = monotonic + EVENT_SPACING_MS
            self._add_sample(_Sample(time - monotonic, time + MAX_LATENCY_MS - monotonic))

    def _add_sample(self, sample: _Sample) -> None:
        self._samples.append(sample)
        self.is_known = True
        counts = [sum(other.lower <= each.lower <= other.upper for other in self._samples) for each in self._samples]
        best = max(counts)
        self.offset = min(s.lower for s, count in zip(self._samples, counts, strict=True) if count == best)
