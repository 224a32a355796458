"""Keeps one WebSocket connection open, and opens its successor before it has to end."""

import asyncio

from services.collector.exchange_feed import ExchangeFeed
from services.collector.socket_session import SessionEvent, SocketSession, acquire_slot
from services.core.backoff import delays
from services.core.exchange import StreamSpec
from services.core.rate_limit import SlidingWindow
from services.ports import Clock

OVERLAP_SECONDS = 1.0  # in which an old and a new connection are both read
HEALTH_CHECK_SECONDS = 0.25
FIRST_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS = 0.25, 15.0


async def stay_connected(feed: ExchangeFeed) -> None:
    """Stay connected to the first host that delivers prices, if the exchange has sockets."""
    if feed.exchange.stream is None or not feed.exchange.ws_urls:
        return
    await feed.instruments_known.wait()
    sessions: set[SocketSession] = set()
    async with asyncio.TaskGroup() as group:
        group.create_task(_health_loop(feed, sessions))
        await _connect_loop(feed, feed.exchange.stream(feed.instruments), group, sessions)


async def _connect_loop(
    feed: ExchangeFeed, stream_spec: StreamSpec, group: asyncio.TaskGroup, sessions: set[SocketSession]
) -> None:
    """Open one session after the other, host by host. `old` is read until its successor delivers prices."""
    urls, connect_limit = feed.exchange.ws_urls, SlidingWindow(feed.exchange.connect_limit)
    pauses, attempt, old = delays(FIRST_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS), 0, None
    while True:
        await acquire_slot(connect_limit)
        session = SocketSession(feed, stream_spec, urls[attempt % len(urls)])
        group.create_task(_run(session, sessions))
        event = await session.events.get()
        if has_price := event is SessionEvent.FIRST_PRICE:
            pauses, attempt = delays(FIRST_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS), 0
            await _retire(old, feed.clock)
            old, event = None, await session.events.get()
        else:
            attempt += 1
        if event is SessionEvent.RENEW:
            await _retire(old, feed.clock)
            old = session
        if event is SessionEvent.CLOSED or not has_price:
            await feed.clock.sleep(max(next(pauses), session.retry_after))


async def _retire(old: SocketSession | None, clock: Clock) -> None:
    """Close a session whose successor delivers prices, after both were read for a moment."""
    if old:
        await clock.sleep(OVERLAP_SECONDS)
        await old.close()


async def _run(session: SocketSession, sessions: set[SocketSession]) -> None:
    sessions.add(session)
    try:
        await session.run()
    finally:
        sessions.discard(session)


async def _health_loop(feed: ExchangeFeed, sessions: set[SocketSession]) -> None:
    while True:
        await feed.clock.sleep(HEALTH_CHECK_SECONDS)
        for session in tuple(sessions):
            session.check_health()
