"""Replies to collectors that have no database: StoreQuery → StoreReply."""

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

MAX_QUERY_AGE_MS = LOOKUP_TIMEOUT_SECONDS * 1000 // 2  # the rest of the collector's time is for the lookup
MAX_WAITING_QUERIES = 1000  # the oldest are dropped
GAP_STATES = {StoreLookup.OPEN_GAPS: CandleGapState.OPEN, StoreLookup.ABSENT_GAPS: CandleGapState.ABSENT}
log = logging.getLogger(__name__)


class _ReceivedQuery(NamedTuple):
    received_at: int  # by our monotonic clock, in ms: the collector's clock may differ by hours
    query: StoreQuery


async def serve_store_queries(deps: Deps) -> None:
    """Reply to one query after the other, so that collectors cause one lookup at a time."""
    waiting, not_empty = deque[_ReceivedQuery](maxlen=MAX_WAITING_QUERIES), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        replies = group.create_task(_reply_loop(deps, waiting, not_empty))
        async with subscribe(deps, StoreQuery) as messages:
            async for message in messages:
                if isinstance(message, StoreQuery):
                    waiting.append(_ReceivedQuery(deps.clock.monotonic(), message))
                    not_empty.set()
        replies.cancel()


async def _reply_loop(deps: Deps, waiting: deque[_ReceivedQuery], not_empty: asyncio.Event) -> None:
    """Reply while the collector waits. Late queries are dropped; otherwise each later reply would be late too."""
    throttled_log = ThrottledLog(log)
    while True:
        while not waiting:
            not_empty.clear()
            await not_empty.wait()
        received = waiting.popleft()
        if (age := deps.clock.monotonic() - received.received_at) > MAX_QUERY_AGE_MS:
            throttled_log.warning("writer: a collector's query is dropped: it has waited for %d ms", age)
            continue
        try:
            await deps.bus.publish(await _reply(deps.store, received.query))
        except Unavailable as error:
            throttled_log.warning("writer: a reply to a collector is not published: %s", error)


async def _reply(store: Store, query: StoreQuery) -> StoreReply:
    try:
        return await _look_up(store, query)
    except Unavailable as error:
        return StoreReply(query.id, error=clean_text(str(error)))
    except Exception:
        log.exception("writer: a collector's query failed: %.300r", query)
        return StoreReply(query.id, error="the writer cannot look this up; the reason is in its log")


async def _look_up(store: Store, query: StoreQuery) -> StoreReply:
    """Look up the store. Of ranges and gaps the newest `limit` are returned, because those are fetched first."""
    series, limit = query.series, query.limit
    match query.lookup:
        case StoreLookup.CANDLES:
            candles = await store.candles(series, query.since, query.until, limit)
            return StoreReply(query.id, candles=tuple(candles))
        case StoreLookup.MISSING:
            missing = await store.missing_ranges(series, query.since, query.until)
            return StoreReply(query.id, ranges=tuple(missing[-limit:]))
        case StoreLookup.UNVERIFIED:
            unconfirmed = await store.unconfirmed_ranges(series, query.since, query.until)
            return StoreReply(query.id, ranges=tuple(unconfirmed[-limit:]))
        case StoreLookup.OPEN_GAPS | StoreLookup.ABSENT_GAPS:
            gaps = await store.candle_gaps(GAP_STATES[query.lookup], series, limit)
            return StoreReply(query.id, gaps=tuple(gaps))
