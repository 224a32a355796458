"""Caches and single-flight: what several requests share."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

MAX_CACHE_BYTES = 8_000_000
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FifoCache(Generic[K, V]):
    """A cache of bounded entries, and of bounded bytes where their sizes are given. The oldest ones are dropped."""

    def __init__(self, max_entries: int, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._max_entries, self._max_bytes, self._bytes = max_entries, max_bytes, 0
        self._values: dict[K, V] = {}
        self._sizes: dict[K, int] = {}
        self.get: Callable[[K], V | None] = self._values.get  # no method: each cached response is looked up by it

    def put(self, key: K, value: V, size: int = 0) -> V:
        """Cache a value of so many bytes, and return it."""
        self.drop(key)
        while self._values and (len(self._values) >= self._max_entries or self._bytes + size > self._max_bytes):
            self.drop(next(iter(self._values)))
        self._values[key], self._sizes[key] = value, size
        self._bytes += size
        return value

    def drop(self, *keys: K) -> None:
        """Drop the entries of these keys."""
        for key in keys:
            self._values.pop(key, None)
            self._bytes -= self._sizes.pop(key, 0)

    def items(self) -> list[tuple[K, V]]:
        """Return all entries."""
        return list(self._values.items())


class SingleFlight(Generic[K, V]):
    """Runs a function once for all callers that need its result at the same time."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, make: Callable[[K], Coroutine[Any, Any, V]]) -> V:
        """Return what `make(key)` returns, or raise what it raises."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(make(key))
            task.add_done_callback(lambda _: self._running.pop(key))
        return await asyncio.shield(task)
