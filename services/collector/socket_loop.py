"""The socket loop: one connection after the other, and a new one before an old one must go."""

import asyncio

from services.collector.exchange_feed import ExchangeFeed
from services.collector.socket_session import SessionEvent, SocketSession, acquire_slot
from services.core.backoff import delays
from services.core.exchange import StreamSpec
from services.core.rate_limit import SlidingWindow
from services.ports import Clock

OVERLAP_SECONDS = 1.0  # seconds in which an old and a new connection are both read
HEALTH_CHECK_SECONDS = 0.25  # seconds between two looks at whether a connection still lives
FIRST_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS = 0.25, 15.0  # seconds before a new attempt


async def stay_connected(feed: ExchangeFeed) -> None:
    """A connection to the first host that gives prices, for as long as the exchange has sockets."""
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
    """Attempts for ever, host by host. `old` goes on until its successor gives prices."""
    hosts, connects = feed.exchange.ws_urls, SlidingWindow(feed.exchange.connect_limit)
    pauses, attempt, old = delays(FIRST_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS), 0, None
    while True:
        await acquire_slot(connects)
        session = SocketSession(feed, stream_spec, hosts[attempt % len(hosts)])
        group.create_task(_run(session, sessions))
        news = await session.events.get()
        if good := news is SessionEvent.FIRST_PRICE:
            pauses, attempt = delays(FIRST_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS), 0
            await _retire(old, feed.clock)
            old, news = None, await session.events.get()
        else:
            attempt += 1
        if news is SessionEvent.RENEW:
            await _retire(old, feed.clock)
            old = session
        if news is SessionEvent.CLOSED or not good:
            await feed.clock.sleep(max(next(pauses), session.retry_after))


async def _retire(old: SocketSession | None, clock: Clock) -> None:
    """Leave a connection whose successor gives prices, after both were read for a moment."""
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
