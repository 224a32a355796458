"""How much of one client is worked on at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.core.errors import Abandoned, Overloaded


class ConcurrencyLimiter:
    """`limit` requests of each client are worked on at once; `queue` more wait in their order, for `seconds` at most.

    So a thousand expensive requests of one client are a few of a thousand clients to everybody else.
    """

    def __init__(self, limit: int, queue: int, seconds: float) -> None:
        self._limit, self._queue, self._seconds = limit, queue, seconds
        self._admitted: dict[str, int] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def slot(self, client: str, has_disconnected: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for a turn; it lasts as long as the block.

        Raises Overloaded when that takes too long, and Abandoned when whoever asked does not wait any more.
        """
        admitted = self._admitted.get(client, 0)
        if admitted >= self._limit + self._queue:
            raise Overloaded(f"{admitted} requests of yours wait for their answers: ask again when they have them")
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
                    raise Abandoned("the client does not wait")
                yield
            finally:
                slots.release()
        finally:
            self._admitted[client] -= 1
            if not self._admitted[client]:
                del self._admitted[client], self._slots[client]
