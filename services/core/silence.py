"""An instrument's own rhythm, and when its quiet is silence.

The pause to expect is weighed by time, not by message: the pause that a random moment falls into. A burst of a hundred
quotes in one second followed by twenty seconds of nothing is a feed with pauses of twenty seconds, not of 0.2.
"""

from math import exp
from typing import NamedTuple

MEMORY_MS = 60_000  # ms; the pauses of about the last minute count,
MEMORY_PAUSES = 10  # or of about so many, when they are long
LEARNING_MS = 5_000  # ms from the first message, in which a rhythm is not known yet
LEARNING_PAUSE_MS = 10_000  # ms that may pass while it is not
MAX_PAUSE_MS = 600_000  # ms; no rhythm excuses more


class SilenceDetector(NamedTuple):
    """Pauses of one feed, in ms. `floor` is what is never called silence."""

    floor: float = 3_000
    first: int | None = None
    last: int | None = None
    weight: float = 0
    pause: float = 0  # weighted sums: divided by `weight` they are the pause to expect and its spread
    spread: float = 0

    def after_message(self, now: int) -> "SilenceDetector":
        """One more message. A pause that was silence teaches no more than what was allowed."""
        if self.first is None or self.last is None:
            return self._replace(first=now, last=now)
        if now == self.last:  # most of what comes in a burst
            return self
        pause = min(max(0, now - self.last), self.allowed_pause)
        share = 1 - exp(-pause / max(MEMORY_MS, MEMORY_PAUSES * self.pause))
        if not share:
            return self._replace(last=now)
        weight = self.weight * (1 - share) + share
        mean = self.pause * (1 - share) + share * pause
        spread = self.spread * (1 - share) + share * abs(pause - mean / weight)
        return SilenceDetector(self.floor, self.first, now, weight, mean, spread)

    @property
    def allowed_pause(self) -> float:
        """How long a pause may be, in ms."""
        if self.first is None or self.last is None or self.last - self.first < LEARNING_MS:
            return max(self.floor, LEARNING_PAUSE_MS)
        return min(max(self.floor, (2 * self.pause + 6 * self.spread) / max(self.weight, 1e-9)), MAX_PAUSE_MS)

    def is_silent(self, now: int) -> bool:
        """Has it been quiet for longer than its rhythm allows? Never before the first message."""
        return self.last is not None and now - self.last > self.allowed_pause
