"""Rate limits over a sliding window."""

from collections import deque

from services.core.exchange import RateLimit


class SlidingWindow:
    """Strictly at most `limit.max_count` in any `limit.seconds`; a token bucket would allow twice that."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._times: deque[float] = deque(maxlen=limit.max_count)

    def delay(self, now: float) -> float:
        """Return the seconds until one more is allowed; 0: now."""
        if len(self._times) < self._limit.max_count:
            return 0
        return max(0.0, self._times[0] + self._limit.seconds - now)

    def record(self, now: float) -> None:
        """Count one."""
        self._times.append(now)

    def record_and_check(self, now: float) -> bool:
        """Count one; return whether it is the last that the limit allows."""
        self.record(now)
        return self.delay(now) > 0


class WeightedWindow:
    """Strictly at most the weight `limit.max_count` in any `limit.seconds`."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit, self._left = limit, limit.max_count
        self._spent: deque[tuple[float, int]] = deque()

    def try_spend(self, amount: int, now: float) -> bool:
        """Spend a weight if that is allowed now; return whether it was."""
        while self._spent and self._spent[0][0] + self._limit.seconds <= now:
            self._left += self._spent.popleft()[1]
        if amount > self._left:
            return False
        self._left -= amount
        self._spent.append((now, amount))
        return True
