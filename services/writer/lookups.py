"""Looks things up in the store for collectors, which have no database: StoreQuery → StoreReply."""

import logging

from services.complaints import Complaints
from services.core.errors import Unavailable
from services.core.model import HoleState, Lookup, StoreQuery, StoreReply
from services.listening import listen
from services.ports import Deps, Store

STATES = {Lookup.OPEN_HOLES: HoleState.OPEN, Lookup.ABSENT_HOLES: HoleState.ABSENT}
log = logging.getLogger(__name__)


async def answer_queries(deps: Deps) -> None:
    """One query after the other: collectors cannot make the writer look up more than one thing at a time."""
    complaints = Complaints(log)
    async with listen(deps, StoreQuery) as messages:
        async for message in messages:
            if isinstance(message, StoreQuery):
                try:
                    await deps.bus.publish(await _reply(deps.store, message))
                except Unavailable as error:
                    complaints.say("a reply to a collector is not sent: %s", error)


async def _reply(store: Store, query: StoreQuery) -> StoreReply:
    try:
        return await _looked_up(store, query)
    except Unavailable as error:
        return StoreReply(query.id, error=str(error))
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
            holes = await store.holes(STATES[query.lookup], series)
            return StoreReply(query.id, holes=tuple(holes[-limit:]))
