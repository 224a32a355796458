"""Looks things up in the store for collectors, which have no database: StoreQuery → StoreReply."""

import asyncio
import logging
from collections import deque
from typing import NamedTuple

from services.bus_input import listen
from services.core.bounds import clean
from services.core.errors import Unavailable
from services.core.model import HoleState, Lookup, StoreQuery, StoreReply
from services.log_throttle import Complaints
from services.ports import LOOKUP_SECONDS, Deps, Store

STALE = LOOKUP_SECONDS * 1000 // 2  # ms; the rest of the time is the lookup's own
WAITING = 1000  # queries; the oldest give way
STATES = {Lookup.OPEN_HOLES: HoleState.OPEN, Lookup.ABSENT_HOLES: HoleState.ABSENT}
log = logging.getLogger(__name__)


class _Received(NamedTuple):
    time: int  # ms of the clock that nobody sets: the sender's may differ by hours
    query: StoreQuery


async def answer_queries(deps: Deps) -> None:
    """One query after the other: collectors cannot make the writer look up more than one thing at a time."""
    waiting, some = deque[_Received](maxlen=WAITING), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        answering = group.create_task(_answer(deps, waiting, some))
        async with listen(deps, StoreQuery) as messages:
            async for message in messages:
                if isinstance(message, StoreQuery):
                    waiting.append(_Received(deps.clock.monotonic(), message))
                    some.set()
        answering.cancel()


async def _answer(deps: Deps, waiting: deque[_Received], some: asyncio.Event) -> None:
    """Those whose sender still waits. Else each reply would be late for good, after the writer was slow once."""
    complaints = Complaints(log)
    while True:
        while not waiting:
            some.clear()
            await some.wait()
        received = waiting.popleft()
        if (waited := deps.clock.monotonic() - received.time) > STALE:
            complaints.say("a collector's query is not answered: it has waited for %d ms", waited)
            continue
        try:
            await deps.bus.publish(await _reply(deps.store, received.query))
        except Unavailable as error:
            complaints.say("a reply to a collector is not sent: %s", error)


async def _reply(store: Store, query: StoreQuery) -> StoreReply:
    try:
        return await _looked_up(store, query)
    except Unavailable as error:
        return StoreReply(query.id, error=clean(str(error)))
    except Exception:
        log.exception("a collector's query failed: %.300r", query)
        return StoreReply(query.id, error="the writer cannot look this up; its log says why")


async def _looked_up(store: Store, query: StoreQuery) -> StoreReply:
    """Of ranges and holes the newest `limit`: what is fetched first."""
    series, limit = query.series, query.limit
    match query.lookup:
        case Lookup.CANDLES:
            candles = await store.candles(series, query.since, query.until, limit)
            return StoreReply(query.id, candles=tuple(candles))
        case Lookup.MISSING:
            missing = await store.missing(series, query.since, query.until)
            return StoreReply(query.id, ranges=tuple(missing[-limit:]))
        case Lookup.UNVERIFIED:
            unverified = await store.unverified(series, query.since, query.until)
            return StoreReply(query.id, ranges=tuple(unverified[-limit:]))
        case Lookup.OPEN_HOLES | Lookup.ABSENT_HOLES:
            holes = await store.holes(STATES[query.lookup], series, limit)
            return StoreReply(query.id, holes=tuple(holes))
