"""What is told: ticks, trades, closed candles and gaps as they come, the state each second and at each change."""

import asyncio
import logging
from contextlib import suppress

from services.collector.exchange_feed import Line
from services.core.backoff import delays
from services.core.errors import Unavailable
from services.core.model import State
from services.sequencing import Teller

log = logging.getLogger(__name__)

STATE = 1_000  # ms between two states when nothing changes
REPEAT = 2.0  # seconds
FULL = 2_000  # messages that are published together
LOOK = 0.1  # seconds between two looks at whether something did
BREATH = 0.001  # seconds between two letters
NOTHING = 60.0  # seconds between two looks at an empty outbox, if nobody says that it is not


async def publish_ticks(line: Line) -> None:
    """All that may go, as soon as the last of it has arrived. What comes meanwhile travels together."""
    pauses = delays(0.1, 5)
    while True:
        await _due(line)
        batch = line.outbox.take(line.clock.monotonic(), FULL)
        try:
            await line.bus.publish(*batch)
        except Unavailable as error:
            line.outbox.put_back(batch)
            log.warning("%s: ticks wait: %s", line.exchange.name, error)
            await line.clock.sleep(next(pauses))
        else:
            line.took()
            pauses = delays(0.1, 5)
            if len(batch) < FULL:  # else more is waiting
                await asyncio.sleep(BREATH)


async def _due(line: Line) -> None:
    """Wait until something may go."""
    while wait := _seconds(line.outbox.wait(line.clock.monotonic())):
        line.some.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await line.some.wait()


def _seconds(milliseconds: int | None) -> float:
    return NOTHING if milliseconds is None else milliseconds / 1000


async def repeat_quotes(line: Line) -> None:
    """Say the last quote of each instrument again: who began to listen later knows soon what does not change."""
    while True:
        await line.clock.sleep(REPEAT)
        if quotes := line.sources.quotes():
            line.outbox.put_back(quotes)
            line.some.set()


async def publish_state(line: Line) -> None:
    """The state each second and at each change. One that cannot be published is replaced by the next."""
    told, due = None, 0
    teller = Teller(line.deps)
    while True:
        line.follow_clock()
        state, now = line.state(), line.clock.monotonic()
        if told is None or now >= due or _gist(state) != _gist(told):
            told, due = state, now + STATE
            try:
                await teller.tell(state)
            except Unavailable:
                log.debug("%s: the state waits for the bus", line.exchange.name)
        await line.clock.sleep(LOOK)


def _gist(state: State) -> object:
    return state.transport, state.host, state.reason, [(source.instrument, source.feed) for source in state.sources]
