"""When a feed that is quiet is silent: longer than its own rhythm of messages allows.

The expected pause is weighted by time, not by message: it is the pause that a random moment falls into. A burst of a
hundred quotes in one second and then twenty seconds without any is a feed with pauses of twenty seconds, not of 0.2.
"""

from math import exp
from typing import NamedTuple

MEMORY_MS = 60_000  # the pauses of about the last minute count,
MEMORY_PAUSES = 10  # or about that many pauses, when they are longer
LEARNING_MS = 5_000  # from the first message, in which the rhythm is unknown
LEARNING_PAUSE_MS = 10_000  # that is allowed meanwhile
MAX_PAUSE_MS = 600_000  # a longer one is silence in any rhythm


class SilenceDetector(NamedTuple):
    """The pauses of one feed, in ms. A pause of `floor` is never silence."""

    floor: float = 3_000
    first: int | None = None
    last: int | None = None
    weight: float = 0
    pause: float = 0  # weighted sums: divided by `weight` they are the expected pause and its spread
    spread: float = 0

    def after_message(self, now: int) -> "SilenceDetector":
        """Return the detector after one more message. A pause that was silence counts as the allowed one."""
        if self.first is None or self.last is None:
            return self._replace(first=now, last=now)
        if now == self.last:  # as most messages of a burst
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
        """The ms that a pause may last."""
        if self.first is None or self.last is None or self.last - self.first < LEARNING_MS:
            return max(self.floor, LEARNING_PAUSE_MS)
        return min(max(self.floor, (2 * self.pause + 6 * self.spread) / max(self.weight, 1e-9)), MAX_PAUSE_MS)

    def is_silent(self, now: int) -> bool:
        """Whether it is quiet for longer than its rhythm allows. Before the first message it is not."""
        return self.last is not None and now - self.last > self.allowed_pause
