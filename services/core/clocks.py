"""What two clocks say of each other: a step of our wall clock, and how far an exchange's clock is from ours."""

STEP = 1_000  # ms between two looks by which a wall clock is not slewed but set


class StepDetector:
    """Steps of a wall clock, which a monotonic clock does not make. Times in ms."""

    def __init__(self, wall: int, monotonic: int) -> None:
        self._first = self._last = wall - monotonic

    @property
    def offset(self) -> int:
        """How far the wall clock has moved against the monotonic one since the beginning."""
        return self._last - self._first

    def look(self, wall: int, monotonic: int) -> int:
        """By how much the wall clock was set since the last look; 0: it was not. Negative: back."""
        moved = wall - monotonic - self._last
        self._last += moved
        return moved if abs(moved) >= STEP else 0
