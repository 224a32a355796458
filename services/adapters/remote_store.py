"""The store of a process that has no database: the writer looks things up for it, over the bus."""

import asyncio
import secrets
from contextlib import aclosing
from typing import Any

from services.bus_input import in_range
from services.core import ranges
from services.core.bounds import MEMBERS, SPAN
from services.core.errors import Misconfigured, Unavailable
from services.core.model import Candle, Hole, HoleState, Lookup, Series, StoreQuery, StoreReply
from services.core.ranges import Run
from services.core.timeframes import TIMEFRAMES
from services.ports import LOOKUP_SECONDS, Bus, Clock

HOLES = {HoleState.OPEN: Lookup.OPEN_HOLES, HoleState.ABSENT: Lookup.ABSENT_HOLES}


class RemoteStore:
    """A `CandleReader`. Every method raises Unavailable when no writer replies, or its database does not answer."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus, self._clock = bus, clock
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
        return await self._scan(Lookup.MISSING, series, since, until)

    async def unverified(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Runs of openings that no word of the exchange has confirmed; the newest of them where they are very many."""
        return await self._scan(Lookup.UNVERIFIED, series, since, until)

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

    async def _scan(self, lookup: Lookup, series: Series, since: int, until: int) -> list[Run]:
        """One part of the range after the other, the newest first: the writer looks through no more at once."""
        timeframe, found = TIMEFRAMES[series.timeframe], list[Run]()
        first = next(timeframe.openings(since, until), None)
        if first is None:
            return found
        for part in ranges.pages(timeframe, [(first, timeframe.opening(until))], SPAN):
            found = [*(await self._ask(lookup, series, *part)).ranges, *found]
            if len(found) >= MEMBERS:
                break
        return ranges.join(timeframe, found)

    async def _ask(self, lookup: Lookup, series: Series, since: int, until: int, limit: int = MEMBERS) -> StoreReply:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="store replies")
        query = StoreQuery(secrets.token_hex(8), lookup, series, since, until, limit)
        reply = self._waiting[query.id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                await self._ready.wait()
                await self._bus.publish(query)
                found: StoreReply = await reply
        except TimeoutError:
            raise Unavailable(f"the writer does not reply within {LOOKUP_SECONDS} s") from None
        finally:
            del self._waiting[query.id]
        if found.error:
            raise Unavailable(found.error)
        return found

    async def _listen(self) -> None:
        try:
            async with (
                self._bus.live(StoreReply) as messages,
                aclosing(in_range(messages, self._clock)) as replies,
            ):
                self._ready.set()
                async for reply in replies:
                    waiting = self._waiting.get(reply.id) if isinstance(reply, StoreReply) else None
                    if waiting and not waiting.done() and isinstance(reply, StoreReply):
                        waiting.set_result(reply)
        finally:
            self._ready.clear()
