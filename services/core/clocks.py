"""What clocks say of each other: steps of our wall clock, and how far an exchange's clock is from ours. Times in ms."""

from collections import deque
from typing import NamedTuple

STEP_MS = 1_000  # between two looks: a wall clock that moved so far was set, not slewed
MAX_OFFSET_ERROR_MS = 100  # a wall clock that is so far from what stamps say is followed
MAX_SAMPLES = 9  # of an exchange's clock that count
EVENT_SPACING_MS = 1_000  # between two events that do
MAX_LATENCY_MS = 1_000  # an event is usually no older when it arrives, nor is a `Date`, which has whole seconds
WARNING_OFFSET_MS = 2_000  # by which a clock may differ without a warning


class StepDetector:
    """Steps of a wall clock, which a monotonic clock does not make."""

    def __init__(self, wall: int, monotonic: int) -> None:
        self._first = self._last = wall - monotonic

    @property
    def offset(self) -> int:
        """How far the wall clock has moved against the monotonic one since the beginning."""
        return self._last - self._first

    def update(self, wall: int, monotonic: int) -> int:
        """By how much the wall clock was set since the last look; 0: it was not. Negative: back."""
        moved = wall - monotonic - self._last
        self._last += moved
        return moved if abs(moved) >= STEP_MS else 0


class WallClockOffset:
    """Wall time for what is published of monotonic times: one offset, held until the wall clock has left it."""

    def __init__(self, wall_time: int, monotonic: int) -> None:
        self.offset = wall_time - monotonic

    def update(self, wall: int, monotonic: int) -> int:
        """Follow the wall clock; answers by how much stamps change."""
        moved = wall - monotonic - self.offset
        if abs(moved) < MAX_OFFSET_ERROR_MS:
            return 0
        self.offset += moved
        return moved

    def wall_time(self, monotonic: int) -> int:
        """The stamp of a moment."""
        return monotonic + self.offset


class _Sample(NamedTuple):
    """What was told once: the exchange's clock minus our monotonic one lies between the two."""

    lower: int
    upper: int


class ExchangeClock:
    """An exchange's clock, as an offset to our monotonic one: whatever is done to our wall clock does not change it.

    It is where most of the last samples agree, so that a wrong header or event changes nothing, and at the low end of
    that, so that nothing is taken for over too early. `offset` is what is taken until the first sample.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.is_known = False
        self._samples = deque[_Sample](maxlen=MAX_SAMPLES)
        self.next_event_at = 0  # when the next event counts

    def now(self, monotonic: int) -> int:
        """What it shows at that moment of ours."""
        return monotonic + self.offset

    def assume(self, offset: int) -> None:
        """Take this offset while there is no sample."""
        if not self.is_known:
            self.offset = offset

    def on_response(self, date: int, age: int, requested: int, monotonic: int) -> None:
        """An answer with that `Date`, `age` ms out of a cache, came at `monotonic` to what was asked at `asked`."""
        self._add_sample(_Sample(date - monotonic, date + MAX_LATENCY_MS + age - requested))

    def on_event(self, time: int | None, monotonic: int) -> None:
        """An event of that time, if it has one, arrived. Most are passed over: one a second is enough."""
        if monotonic >= self.next_event_at and time is not None:
            self.next_event_at = monotonic + EVENT_SPACING_MS
            self._add_sample(_Sample(time - monotonic, time + MAX_LATENCY_MS - monotonic))

    def _add_sample(self, sample: _Sample) -> None:
        self._samples.append(sample)
        self.is_known = True
        counts = [sum(other.lower <= each.lower <= other.upper for other in self._samples) for each in self._samples]
        best = max(counts)
        self.offset = min(s.lower for s, count in zip(self._samples, counts, strict=True) if count == best)
