"""The cache in the memory of one process."""

import time
from collections.abc import Callable, Mapping

from services.core.model import ActiveExchange, ExchangeStatus, Rate, partition_key
from services.core.quotas import (
    COUNTED_MS,
    AttemptCounter,
    AttemptRule,
    AttemptState,
    GenerationalMap,
    RecentCounts,
    expiry,
)
from services.core.sender_clocks import supersedes

MAX_CACHE_BYTES = 32_000_000
ENTRY_OVERHEAD_BYTES = 250  # of an entry beside its key and body


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryCache:
    """Current values of one process. `monotonic` is in seconds, `wall` in ms; `most_bytes` bounds the bodies."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        most_bytes: int = MAX_CACHE_BYTES,
        wall: Callable[[], int] = _wall_ms,
    ) -> None:
        self._bodies: dict[str, tuple[float, bytes]] = {}
        self._max_bytes, self._used_bytes = most_bytes, 0
        self._latest: dict[object, Rate | ExchangeStatus | ActiveExchange] = {}
        self._windows: dict[str, tuple[float, dict[str, int]]] = {}
        self._recent: dict[str, GenerationalMap[RecentCounts]] = {}
        self._attempts = AttemptCounter()
        self._monotonic, self._wall = monotonic, wall

    async def put_latest(self, *items: Rate | ExchangeStatus | ActiveExchange) -> None:
        """Cache the newest of each."""
        for item in items:
            cached = self._latest.get(name := (type(item), partition_key(item)))
            if cached is None or supersedes(item.time, cached.time, self._wall()):
                self._latest[name] = item

    async def rates(self) -> list[Rate]:
        """Return the last rate of each direction."""
        return [item for item in self._latest.values() if isinstance(item, Rate)]

    async def exchange_statuses(self) -> list[ExchangeStatus]:
        """Return the last status of each exchange."""
        return [item for item in self._latest.values() if isinstance(item, ExchangeStatus)]

    async def active_exchange(self) -> ActiveExchange | None:
        """Return the active exchange."""
        return next((item for item in self._latest.values() if isinstance(item, ActiveExchange)), None)

    async def increment(self, window: str, ttl_seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Add `counts` to the counters of `window`, which expire `ttl_seconds` after its first. Return the totals."""
        now = self._monotonic()
        self._windows = {name: entry for name, entry in self._windows.items() if entry[0] > now}
        _, totals = self._windows.setdefault(window, (now + ttl_seconds, {}))
        for name, number in counts.items():
            totals[name] = totals.get(name, 0) + number
        return {name: totals[name] for name in counts}

    async def add_recent(self, quota: str, counts: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        """Add to the requests of these clients that count at a quota. Return what counts for each."""
        now, totals = self._now(), {}
        clients = self._recent.setdefault(quota, GenerationalMap(COUNTED_MS))
        for client, count in counts.items():
            recent = clients.get(client, now) or clients.put(client, RecentCounts())
            recent.drop_expired(now)
            if count < 0:
                recent.take_back(-count)
            elif count:
                recent.add(count, expiry(now))
            totals[client] = [(expires - now, number) for expires, number in recent.entries]
        return totals

    async def attempt(self, rules: Mapping[str, AttemptRule]) -> dict[str, AttemptState]:
        """Count an attempt under each key, unless one of them has to wait."""
        return self._attempts.attempt(rules, self._now())

    async def forgive(self, *keys: str) -> None:
        """Take back the failure that an attempt counts as, under each key."""
        self._attempts.forgive(keys, self._now())

    async def get(self, *keys: str) -> list[bytes | None]:
        """Return the bodies under these keys."""
        now, nothing = self._monotonic(), (0.0, b"")
        entries = [self._bodies.get(key, nothing) for key in keys]
        return [body if expires > now else None for expires, body in entries]

    async def set(self, key: str, body: bytes, ttl_seconds: int) -> None:
        """Cache a body. When all bodies take too many bytes, the oldest are deleted."""
        await self.delete(key)
        self._bodies[key] = (self._monotonic() + ttl_seconds, body)
        self._used_bytes += _size(key, body)
        while self._used_bytes > self._max_bytes:
            await self.delete(next(iter(self._bodies)))

    async def take(self, key: str) -> bytes | None:
        """Return the body under a key and delete it."""
        (body,) = await self.get(key)
        await self.delete(key)
        return body

    async def delete(self, *keys: str) -> None:
        """Delete the bodies under these keys."""
        for name in keys:
            if entry := self._bodies.pop(name, None):
                self._used_bytes -= _size(name, entry[1])

    async def ping(self) -> None:
        """Check nothing: there is no server."""

    def _now(self) -> int:
        return round(self._monotonic() * 1000)

    async def close(self) -> None:
        """Close nothing: there is no connection."""


def _size(key: str, body: bytes) -> int:
    return ENTRY_OVERHEAD_BYTES + len(key) + len(body)
