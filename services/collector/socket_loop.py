"""The socket loop: one connection after the other, and a new one before an old one must go."""

import asyncio

from services.collector.exchange_feed import Line
from services.collector.socket_session import News, Session, passage
from services.core.backoff import delays
from services.core.exchange import Stream
from services.core.rate_limit import Window
from services.ports import Clock

OVERLAP = 1.0  # seconds in which an old and a new connection are both read
LOOK = 0.25  # seconds between two looks at whether a connection still lives
FIRST, LIMIT = 0.25, 15.0  # seconds before a new attempt


async def stay_connected(line: Line) -> None:
    """A connection to the first host that gives prices, for as long as the exchange has sockets."""
    if line.exchange.stream is None or not line.exchange.sockets:
        return
    await line.listed.wait()
    sessions: set[Session] = set()
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(line, sessions))
        await _connect(line, line.exchange.stream(line.wanted), group, sessions)


async def _connect(line: Line, stream: Stream, group: asyncio.TaskGroup, sessions: set[Session]) -> None:
    """Attempts for ever, host by host. `old` goes on until its successor gives prices."""
    hosts, connects = line.exchange.sockets, Window(line.exchange.connects)
    pauses, attempt, old = delays(FIRST, LIMIT), 0, None
    while True:
        await passage(connects)
        session = Session(line, stream, hosts[attempt % len(hosts)])
        group.create_task(_run(session, sessions))
        news = await session.news.get()
        if good := news is News.GOOD:
            pauses, attempt = delays(FIRST, LIMIT), 0
            await _retire(old, line.clock)
            old, news = None, await session.news.get()
        else:
            attempt += 1
        if news is News.RENEW:
            await _retire(old, line.clock)
            old = session
        if news is News.OVER or not good:
            await line.clock.sleep(max(next(pauses), session.wait))


async def _retire(old: Session | None, clock: Clock) -> None:
    """Leave a connection whose successor gives prices, after both were read for a moment."""
    if old:
        await clock.sleep(OVERLAP)
        await old.leave()


async def _run(session: Session, sessions: set[Session]) -> None:
    sessions.add(session)
    try:
        await session.run()
    finally:
        sessions.discard(session)


async def _watch(line: Line, sessions: set[Session]) -> None:
    while True:
        await line.clock.sleep(LOOK)
        for session in tuple(sessions):
            session.look()
