"""A limit to the requests of one client that run at the same time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.core.errors import Abandoned, Overloaded


class ConcurrencyLimiter:
    """Runs `limit` requests of each client at the same time; `queue` more wait in their order, `seconds` at most.

    So a thousand expensive requests of one client delay those of others as little as a few do.
    """

    def __init__(self, limit: int, queue: int, seconds: float) -> None:
        self._limit, self._queue, self._seconds = limit, queue, seconds
        self._admitted: dict[str, int] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def slot(self, client: str, has_disconnected: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the block.

        Raises Overloaded when that takes too long, and Abandoned when the client has disconnected by then.
        """
        admitted = self._admitted.get(client, 0)
        if admitted >= self._limit + self._queue:
            raise Overloaded(f"{admitted} requests of yours are waiting: send more when they are done")
        self._admitted[client] = admitted + 1
        slots = self._slots.setdefault(client, asyncio.Semaphore(self._limit))
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await slots.acquire()
            except TimeoutError:
                raise Overloaded(f"{admitted} requests of yours came before, and took {self._seconds:.0f} s") from None
            try:
                if has_disconnected():
                    raise Abandoned("the client has disconnected")
                yield
            finally:
                slots.release()
        finally:
            self._admitted[client] -= 1
            if not self._admitted[client]:
                del self._admitted[client], self._slots[client]
