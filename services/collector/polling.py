"""Prices by REST, where there is no socket or when a new one does not know everything yet."""

from services.collector.exchange_feed import Line
from services.collector.rest_client import NoAnswer, Rest
from services.core.backoff import delays

SOCKETLESS = 2.0  # seconds without a socket after which polling begins
SPACING = 0.1  # seconds per call; whoever asks for more instruments polls less often
LOOK = 0.25  # seconds between two looks at the socket


async def poll(line: Line, rest: Rest) -> None:
    """Prices by REST: always where there are no sockets, else while none is up, and once when one has opened."""
    if line.exchange.poll is None:
        return
    await line.listed.wait()
    limit = max(15.0, line.exchange.poll_seconds)
    pauses = delays(0.5, limit)
    while True:
        await _due(line)
        line.link.unfilled = False
        asks = line.exchange.poll(line.sources.present(), line.due())
        try:
            for ask in asks:
                line.take(await rest.get(ask))
                line.alive(line.clock.monotonic())
                line.link.polled(rest.host)
        except NoAnswer as error:
            line.link.unfilled = bool(line.link.sockets)
            line.link.down(error.reason)
            await line.clock.sleep(max(next(pauses), error.wait))
        else:
            pauses = delays(0.5, limit)
            await line.clock.sleep(max(line.exchange.poll_seconds, SPACING * len(asks)))


async def _due(line: Line) -> None:
    """Return when there has been no socket for a while, or a new one does not know everything yet."""
    quiet, link = 0.0, line.link
    while line.exchange.sockets and quiet < SOCKETLESS and link.transport != "polling" and not link.unfilled:
        await line.clock.sleep(LOOK)
        quiet = 0.0 if link.sockets else quiet + LOOK
