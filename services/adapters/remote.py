"""The store of a process that has no database: the writer looks things up for it, over the bus."""

import asyncio
import secrets
from typing import Any

from services.core.bounds import MEMBERS
from services.core.errors import Misconfigured, Unavailable
from services.core.model import Candle, Hole, HoleState, Lookup, Series, StoreQuery, StoreReply
from services.ports import Bus

SECONDS = 10  # in which the writer replies, also while it saves a long batch
HOLES = {HoleState.OPEN: Lookup.OPEN_HOLES, HoleState.ABSENT: Lookup.ABSENT_HOLES}


class RemoteStore:
    """A `CandleReader`. Every method raises Unavailable when no writer replies, or its database does not answer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[str, asyncio.Future[StoreReply]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Misconfigured(
            f"DATABASE_URL: bus:// is for collectors alone; nothing else ({name}) works without a database"
        )

    async def candles(self, series: Series, since: int, until: int, limit: int | None = None) -> list[Candle]:
        """Candles with openings in [since, until], oldest first; the oldest `limit` of them."""
        return list((await self._ask(Lookup.CANDLES, series, since, until, limit or MEMBERS)).candles)

    async def missing(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Runs of openings in [since, until] without a closed candle; the newest of them where they are very many."""
        return list((await self._ask(Lookup.MISSING, series, since, until)).ranges)

    async def unverified(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Runs of openings that no word of the exchange has confirmed; the newest of them where they are very many."""
        return list((await self._ask(Lookup.UNVERIFIED, series, since, until)).ranges)

    async def holes(self, state: HoleState, series: Series | None = None) -> list[Hole]:
        """Open or absent holes of one series."""
        if series is None:
            raise ValueError("the holes of all series are not looked up over the bus")
        return list((await self._ask(HOLES[state], series, 0, 0)).holes)

    async def check(self) -> None:
        """The writer checks its database itself."""

    async def ping(self) -> None:
        """The bus, which is all that this needs, has a check of its own."""

    async def close(self) -> None:
        """Listen no more."""
        if self._listening:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _ask(self, lookup: Lookup, series: Series, since: int, until: int, limit: int = MEMBERS) -> StoreReply:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="store replies")
        query = StoreQuery(secrets.token_hex(8), lookup, series, since, until, limit)
        reply = self._waiting[query.id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(SECONDS):
                await self._ready.wait()
                await self._bus.publish(query)
                found: StoreReply = await reply
        except TimeoutError:
            raise Unavailable(f"the writer does not reply within {SECONDS} s") from None
        finally:
            del self._waiting[query.id]
        if found.error:
            raise Unavailable(found.error)
        return found

    async def _listen(self) -> None:
        async with self._bus.live(StoreReply) as messages:
            self._ready.set()
            async for message in messages:
                waiting = self._waiting.get(message.id) if isinstance(message, StoreReply) else None
                if waiting and not waiting.done() and isinstance(message, StoreReply):
                    waiting.set_result(message)
