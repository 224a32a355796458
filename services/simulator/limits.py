"""Request budgets per client address, counted as the exchanges count them."""

from typing import NamedTuple


class Spending(NamedTuple):
    """What a client has used of the current window."""

    used: int
    excess: int  # requests after the limit was reached
    retry_after: int  # seconds until the window ends


class WindowBudget:
    """At most `limit` units per client in each window of `window` ms."""

    def __init__(self, limit: int, window: int) -> None:
        self.limit, self._window = limit, window
        self._window_number = 0
        self._used: dict[str, int] = {}
        self._excess: dict[str, int] = {}

    def spend(self, client: str, units: int, now: int) -> Spending:
        """Count a request. `now` is in ms."""
        number, passed = divmod(now, self._window)
        if number != self._window_number:
            self._window_number, self._used, self._excess = number, {}, {}
        used = self._used[client] = self._used.get(client, 0) + units
        if used > self.limit:
            self._excess[client] = self._excess.get(client, 0) + 1
        return Spending(used, self._excess.get(client, 0), -(-(self._window - passed) // 1000))


class CreditPool:
    """A pool of credits: each request costs `cost`, time refills 10,000 a second, and it holds `size` at most."""

    REFILL_PER_MS = 10  # per ms

    def __init__(self, cost: int, size: int, now: int) -> None:
        self._cost, self._size = cost, size
        self._balance, self._refilled_at = size, now

    def spend(self, now: int) -> bool:
        """Pay for a request. Return whether the credits suffice."""
        self._balance = min(self._size, self._balance + (now - self._refilled_at) * self.REFILL_PER_MS)
        self._refilled_at = now
        if self._balance < self._cost:
            return False
        self._balance -= self._cost
        return True
