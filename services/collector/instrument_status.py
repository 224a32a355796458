"""Which instruments trade: of those that do not only the history is collected, whatever is said of their price."""

from services.collector.exchange_feed import Line
from services.collector.rest_client import NoAnswer, Rest
from services.core.backoff import delays
from services.core.exchange import Ask, Presence
from services.core.model import Instrument

SECONDS = 30.0  # between two looks
UNKNOWN = (400, 404)  # what is said of an instrument that is not listed
WEIGHT = 600  # a minute at most; whoever has many instruments looks less often


async def watch_listing(line: Line, rest: Rest) -> None:
    """Gate instruments on what trades: before the first connection, and again from time to time."""
    if line.exchange.listing is None:
        line.listed.set()
        return
    minutes = len(line.wanted) * line.exchange.listing_weight / WEIGHT
    pauses = delays(0.25, 15)
    while True:
        try:
            for instrument in line.wanted:
                await _look(line, rest, line.exchange.listing(instrument), instrument)
        except NoAnswer as error:
            if not line.listed.is_set():
                line.link.down(error.reason)
            await line.clock.sleep(max(next(pauses), error.wait))
        else:
            line.listed.set()
            pauses = delays(0.25, 15)
            await line.clock.sleep(max(SECONDS, minutes * 60))


async def _look(line: Line, rest: Rest, ask: Ask, instrument: Instrument) -> None:
    """Raises NoAnswer for what is no matter of this instrument alone."""
    try:
        events = await rest.get(ask)
    except NoAnswer as error:
        if not error.about_request or error.wait:
            raise
        if error.status in UNKNOWN:
            line.halted.discard(instrument)
            line.take([Presence(instrument, False, error.reason)])
        return
    for event in events:
        if isinstance(event, Presence):
            (line.halted.discard if event.present else line.halted.add)(instrument)
            line.take([event])
