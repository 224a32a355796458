"""Quotas over a sliding minute, and waits that grow with failures.

A request counts from its own second on until a minute after the end of that second. So no minute, wherever it begins,
has more requests than the limit; and of a client that sends at most as many in any 61 s none is refused. A counter for
each calendar minute allows twice the limit around its boundary, and so does GCRA with a burst of the limit. The time of
each single request would be exact both ways, and takes memory for each.
"""

from collections.abc import Iterable, Mapping
from math import log2
from typing import Generic, NamedTuple, TypeVar
from zlib import crc32

WINDOW_MS, STEP_MS = 60_000, 1_000
COUNTED_MS = WINDOW_MS + STEP_MS  # the longest time for which a request counts
ATTEMPT_LIFETIME_MS = 3_600_000  # after one to two of these without an attempt, all failures are forgotten
V = TypeVar("V")


class RecentCounts:
    """The requests of one client that still count. `total`: how many. Times are of one monotonic clock, in ms."""

    __slots__ = ("_entries", "total")

    def __init__(self) -> None:
        self._entries: list[int] = []  # expiry, count, expiry, count, …: half the memory of a list of pairs
        self.total = 0

    @property
    def entries(self) -> list[tuple[int, int]]:
        """The requests as pairs of expiry and count, oldest first."""
        return list(zip(self._entries[::2], self._entries[1::2], strict=True))

    def drop_expired(self, now: int) -> None:
        """Drop what counts no longer."""
        entries = self._entries
        while entries and entries[0] <= now:
            self.total -= entries[1]
            del entries[:2]

    def add(self, count: int, expires: int) -> None:
        """Count requests until a time. Where newer ones are counted already, they count as long as those."""
        self.total += count
        if self._entries and self._entries[-2] >= expires:
            self._entries[-1] += count
        else:
            self._entries += (expires, count)

    def take_back(self, count: int) -> None:
        """Remove the newest requests."""
        while count and self._entries:
            taken = min(count, self._entries[-1])
            self._entries[-1] -= taken
            self.total -= taken
            count -= taken
            if not self._entries[-1]:
                del self._entries[-2:]

    def replace(self, entries: Iterable[tuple[int, int]]) -> None:
        """Count other requests instead."""
        self._entries = [value for entry in entries for value in entry]
        self.total = sum(self._entries[1::2])

    def expiry_of(self, count: int) -> int:
        """Return when that many of the oldest requests count no longer. Raises IndexError if there are fewer."""
        place = 0
        while (count := count - self._entries[place + 1]) > 0:
            place += 2
        return self._entries[place]


def expiry(now: int) -> int:
    """Return until when a request counts."""
    return now - now % STEP_MS + COUNTED_MS


class GenerationalMap(Generic[V]):
    """A dict that forgets a value one to two lifetimes after its last use, a whole generation at once."""

    def __init__(self, lifetime_ms: int) -> None:
        self._lifetime_ms = lifetime_ms
        self._current: dict[str, V] = {}
        self._previous: dict[str, V] = {}
        self._ends_at = 0

    def __len__(self) -> int:
        return len(self._current) + len(self._previous)

    def get(self, key: str, now: int) -> V | None:
        """Return a value, which counts as used."""
        if now >= self._ends_at:
            self._begin_generation(now)
        value = self._current.get(key)
        if value is None and (value := self._previous.pop(key, None)) is not None:
            self._current[key] = value
        return value

    def put(self, key: str, value: V) -> V:
        """Set a value, and return it."""
        self._current[key] = value
        return value

    def own_or_shared(self, key: str, max_own: int) -> str:
        """Return the key, or the one that it shares with others once so many keys were used in this generation."""
        if len(self._current) < max_own or key in self._current or key in self._previous:
            return key
        return f"#{crc32(key.encode()) % max_own}"

    def _begin_generation(self, now: int) -> None:
        self._previous = self._current if now < self._ends_at + self._lifetime_ms else {}
        self._current = {}
        self._ends_at = now + self._lifetime_ms


class AttemptRule(NamedTuple):
    """How often something may be tried, and how long the next attempt has to wait after failures.

    `limit`: attempts in a minute; 0: any number. Each failure beyond `free_failures` doubles the wait, from
    `first_wait_ms` up to `forgiven_ms`, the time after which one failure is forgotten.
    """

    limit: int
    free_failures: int
    forgiven_ms: int
    first_wait_ms: int = 1_000

    @property
    def max_failures(self) -> float:
        """The number of failures beyond which waits grow no longer."""
        return self.free_failures + 1 + log2(self.forgiven_ms / self.first_wait_ms)


class AttemptState(NamedTuple):
    """`wait_ms`: 0 for an attempt that is allowed and was counted. `left`: how many more there may be until another
    one is, in `reset_ms`.
    """

    wait_ms: int
    left: int
    reset_ms: int


class AttemptRecord:
    """The attempts under one key. An attempt counts as a failure until it is forgiven."""

    __slots__ = ("_failed_at", "_failures", "_recent")

    def __init__(self) -> None:
        self._recent, self._failures, self._failed_at = RecentCounts(), 0.0, 0

    def state(self, rule: AttemptRule, now: int) -> AttemptState:
        """Return whether one more attempt is allowed."""
        recent = self._recent
        recent.drop_expired(now)
        wait = self._failed_at + self._backoff_ms(rule) - now
        left = rule.limit - recent.total
        reset = recent.expiry_of(1) - now if recent.total else COUNTED_MS
        if rule.limit and left <= 0:
            wait = max(wait, recent.expiry_of(1 - left) - now)
        return AttemptState(max(wait, 0), max(left, 0), reset)

    def count(self, rule: AttemptRule, now: int) -> None:
        """Count an attempt, a failure at first."""
        if rule.limit:
            self._recent.add(1, expiry(now))
        self.fail(rule, now)

    def fail(self, rule: AttemptRule, now: int) -> None:
        """Count a failure, unless the one before still has to be waited for."""
        if now < self._failed_at + self._backoff_ms(rule):
            return
        forgotten = (now - self._failed_at) / rule.forgiven_ms
        self._failures = min(max(self._failures - forgotten, 0.0) + 1, rule.max_failures)
        self._failed_at = now

    def forgive(self) -> None:
        """Take one failure back."""
        self._failures = max(self._failures - 1, 0.0)

    def _backoff_ms(self, rule: AttemptRule) -> int:
        excess = self._failures - rule.free_failures
        return round(min(rule.first_wait_ms * 2 ** (excess - 1), rule.forgiven_ms)) if excess > 0 else 0


class AttemptCounter:
    """The attempts under all keys, in the memory of one process."""

    def __init__(self) -> None:
        self._records: GenerationalMap[AttemptRecord] = GenerationalMap(ATTEMPT_LIFETIME_MS)

    def attempt(self, rules: Mapping[str, AttemptRule], now: int) -> dict[str, AttemptState]:
        """Count an attempt under each key, unless one of them has to wait."""
        records = {key: self._records.get(key, now) or self._records.put(key, AttemptRecord()) for key in rules}
        states = {key: record.state(rules[key], now) for key, record in records.items()}
        if not any(state.wait_ms for state in states.values()):
            for key, record in records.items():
                record.count(rules[key], now)
                states[key] = record.state(rules[key], now)._replace(wait_ms=0)
            return states
        for key, record in records.items():
            if states[key].wait_ms:
                record.fail(rules[key], now)
                states[key] = record.state(rules[key], now)
        return states

    def forgive(self, keys: Iterable[str], now: int) -> None:
        """Take a failure back under each key."""
        for key in keys:
            if record := self._records.get(key, now):
                record.forgive()
