"""Looks things up in the store for collectors, which have no database: StoreQuery → StoreReply."""

import asyncio
import logging
from collections import deque
from typing import NamedTuple

from services.bus_input import subscribe
from services.core.bounds import clean_text
from services.core.errors import Unavailable
from services.core.model import CandleGapState, StoreLookup, StoreQuery, StoreReply
from services.log_throttle import ThrottledLog
from services.ports import LOOKUP_TIMEOUT_SECONDS, Deps, Store

MAX_QUERY_AGE_MS = LOOKUP_TIMEOUT_SECONDS * 1000 // 2  # ms; the rest of the time is the lookup's own
MAX_WAITING_QUERIES = 1000  # queries; the oldest give way
GAP_STATES = {StoreLookup.OPEN_GAPS: CandleGapState.OPEN, StoreLookup.ABSENT_GAPS: CandleGapState.ABSENT}
log = logging.getLogger(__name__)


class _ReceivedQuery(NamedTuple):
    received_at: int  # ms of the clock that nobody sets: the sender's may differ by hours
    query: StoreQuery


async def serve_store_queries(deps: Deps) -> None:
    """One query after the other: collectors cannot make the writer look up more than one thing at a time."""
    waiting, some = deque[_ReceivedQuery](maxlen=MAX_WAITING_QUERIES), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        answering = group.create_task(_reply_loop(deps, waiting, some))
        async with subscribe(deps, StoreQuery) as messages:
            async for message in messages:
                if isinstance(message, StoreQuery):
                    waiting.append(_ReceivedQuery(deps.clock.monotonic(), message))
                    some.set()
        answering.cancel()


async def _reply_loop(deps: Deps, waiting: deque[_ReceivedQuery], not_empty: asyncio.Event) -> None:
    """Those whose sender still waits. Else each reply would be late for good, after the writer was slow once."""
    complaints = ThrottledLog(log)
    while True:
        while not waiting:
            not_empty.clear()
            await not_empty.wait()
        received = waiting.popleft()
        if (waited := deps.clock.monotonic() - received.received_at) > MAX_QUERY_AGE_MS:
            complaints.warning("a collector's query is not answered: it has waited for %d ms", waited)
            continue
        try:
            await deps.bus.publish(await _reply(deps.store, received.query))
        except Unavailable as error:
            complaints.warning("a reply to a collector is not sent: %s", error)


async def _reply(store: Store, query: StoreQuery) -> StoreReply:
    try:
        return await _look_up(store, query)
    except Unavailable as error:
        return StoreReply(query.id, error=clean_text(str(error)))
    except Exception:
        log.exception("a collector's query failed: %.300r", query)
        return StoreReply(query.id, error="the writer cannot look this up; its log says why")


async def _look_up(store: Store, query: StoreQuery) -> StoreReply:
    """Of ranges and holes the newest `limit`: what is fetched first."""
    series, limit = query.series, query.limit
    match query.lookup:
        case StoreLookup.CANDLES:
            candles = await store.candles(series, query.since, query.until, limit)
            return StoreReply(query.id, candles=tuple(candles))
        case StoreLookup.MISSING:
            missing = await store.missing_ranges(series, query.since, query.until)
            return StoreReply(query.id, ranges=tuple(missing[-limit:]))
        case StoreLookup.UNVERIFIED:
            unverified = await store.unconfirmed_ranges(series, query.since, query.until)
            return StoreReply(query.id, ranges=tuple(unverified[-limit:]))
        case StoreLookup.OPEN_GAPS | StoreLookup.ABSENT_GAPS:
            holes = await store.candle_gaps(GAP_STATES[query.lookup], series, limit)
            return StoreReply(query.id, gaps=tuple(holes))
