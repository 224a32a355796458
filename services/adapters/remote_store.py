"""The store of a process without a database: it sends its queries to the writer over the bus."""

import asyncio
import secrets
from contextlib import aclosing
from typing import Any

from services.bus_input import drop_out_of_range
from services.core import ranges
from services.core.bounds import MAX_LIST_LENGTH, MAX_QUERY_CANDLES
from services.core.errors import Misconfigured, Unavailable
from services.core.model import Candle, CandleGap, CandleGapState, Series, StoreLookup, StoreQuery, StoreReply
from services.core.ranges import TimeRange
from services.core.timeframes import TIMEFRAMES
from services.ports import LOOKUP_TIMEOUT_SECONDS, Bus, Clock

LOOKUP_BY_STATE = {CandleGapState.OPEN: StoreLookup.OPEN_GAPS, CandleGapState.ABSENT: StoreLookup.ABSENT_GAPS}


class RemoteStore:
    """A `CandleReader`. Every method raises Unavailable when no writer replies, or the writer's database is down."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus, self._clock = bus, clock
        self._pending: dict[str, asyncio.Future[StoreReply]] = {}
        self._receiver: asyncio.Task[None] | None = None
        self._subscribed = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Misconfigured(f"DATABASE_URL: bus:// is for collectors only; {name} needs a database")

    async def candles(self, series: Series, since: int, until: int, limit: int | None = None) -> list[Candle]:
        """Return candles with open times in [since, until], oldest first; the first `limit`."""
        return list((await self._request(StoreLookup.CANDLES, series, since, until, limit or MAX_LIST_LENGTH)).candles)

    async def missing_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Return ranges of open times in [since, until] without a closed candle; at most the newest `MEMBERS`."""
        return await self._scan(StoreLookup.MISSING, series, since, until)

    async def unconfirmed_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        """Return ranges of open times not confirmed by a kline; at most the newest `MEMBERS`."""
        return await self._scan(StoreLookup.UNVERIFIED, series, since, until)

    async def candle_gaps(self, state: CandleGapState, series: Series | None = None) -> list[CandleGap]:
        """Return open or absent candle gaps of one series."""
        if series is None:
            raise ValueError("candle gaps of all series cannot be requested over the bus; name a series")
        return list((await self._request(LOOKUP_BY_STATE[state], series, 0, 0)).gaps)

    async def check(self) -> None:
        """Check nothing: the writer checks its database."""

    async def ping(self) -> None:
        """Check nothing: this needs only the bus, which has its own check."""

    async def close(self) -> None:
        """Stop receiving replies."""
        if self._receiver:
            self._receiver.cancel()
            await asyncio.gather(self._receiver, return_exceptions=True)

    async def _scan(self, lookup: StoreLookup, series: Series, since: int, until: int) -> list[TimeRange]:
        """Query one part of the range after the other, the newest first, because the writer limits one query."""
        timeframe, merged = TIMEFRAMES[series.timeframe], list[TimeRange]()
        first = next(timeframe.open_times(since, until), None)
        if first is None:
            return merged
        for part in ranges.split(timeframe, [(first, timeframe.open_time(until))], MAX_QUERY_CANDLES):
            merged = [*(await self._request(lookup, series, *part)).ranges, *merged]
            if len(merged) >= MAX_LIST_LENGTH:
                break
        return ranges.merge_adjacent(timeframe, merged)

    async def _request(
        self, lookup: StoreLookup, series: Series, since: int, until: int, limit: int = MAX_LIST_LENGTH
    ) -> StoreReply:
        if self._receiver is None or self._receiver.done():
            self._receiver = asyncio.create_task(self._receive_replies(), name="store replies")
        query = StoreQuery(secrets.token_hex(8), lookup, series, since, until, limit)
        reply = self._pending[query.id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_SECONDS):
                await self._subscribed.wait()
                await self._bus.publish(query)
                result: StoreReply = await reply
        except TimeoutError:
            raise Unavailable(f"the writer did not reply within {LOOKUP_TIMEOUT_SECONDS} s") from None
        finally:
            del self._pending[query.id]
        if result.error:
            raise Unavailable(result.error)
        return result

    async def _receive_replies(self) -> None:
        try:
            async with (
                self._bus.subscribe(StoreReply) as messages,
                aclosing(drop_out_of_range(messages, self._clock)) as replies,
            ):
                self._subscribed.set()
                async for reply in replies:
                    waiting = self._pending.get(reply.id) if isinstance(reply, StoreReply) else None
                    if waiting and not waiting.done() and isinstance(reply, StoreReply):
                        waiting.set_result(reply)
        finally:
            self._subscribed.clear()
