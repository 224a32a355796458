"""Trades that are missing: they are asked for again, and those that cannot be had become a gap."""

from services.collector.exchange_feed import Line
from services.collector.rest_client import NoAnswer, Rest
from services.core.model import Instrument

REORDER = 300  # ms in which a missing trade may still come by itself
PATIENCE = 15_000  # ms after which missing trades are given up
LEAD_PATIENCE = 3_000  # ms after which those before the first that came are
MOST = 5_000  # missing trades that are asked for
LOOK = 0.1  # seconds between two looks
PAUSE = 0.5  # seconds after a question in vain


async def refill(line: Line, rest: Rest) -> None:
    """Close holes as they open, where the exchange tells its trades again."""
    while line.exchange.missed:
        await line.clock.sleep(LOOK)
        for instrument, sequence in tuple(line.sequences.items()):
            age = 0 if sequence.since is None else line.clock.monotonic() - sequence.since
            if age > (-1 if sequence.leading else REORDER) and sequence.missing() and line.link.connected:
                await _close(line, rest, instrument, age)


async def _close(line: Line, rest: Rest, instrument: Instrument, age: int) -> None:
    """Ask for a hole's trades; give up when that was in vain for too long, or when they are too many to ask for."""
    sequence = line.sequences[instrument]
    hole = sequence.missing()
    if line.exchange.missed and len(hole) <= MOST:
        try:
            line.take(await rest.get(line.exchange.missed(instrument, hole)))
        except NoAnswer as error:
            await line.clock.sleep(min(error.wait, 5))
    if sequence.missing() != hole:
        return
    if age > (LEAD_PATIENCE if sequence.leading else PATIENCE) or len(hole) > MOST:
        line.give_up(instrument)
    else:
        await line.clock.sleep(PAUSE)
