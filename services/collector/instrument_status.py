"""Which instruments trade: of those that do not only the history is collected, whatever is said of their price."""

from services.collector.exchange_feed import ExchangeFeed
from services.collector.rest_client import RestClient, RestError
from services.core.backoff import delays
from services.core.exchange import InstrumentStatus, RestCall
from services.core.model import Instrument

CHECK_INTERVAL_SECONDS = 30.0  # between two looks
UNLISTED_STATUSES = (400, 404)  # what is said of an instrument that is not listed
MAX_WEIGHT_PER_MINUTE = 600  # a minute at most; whoever has many instruments looks less often


async def watch_instruments(feed: ExchangeFeed, rest_client: RestClient) -> None:
    """Gate instruments on what trades: before the first connection, and again from time to time."""
    if feed.exchange.instrument_status is None:
        feed.instruments_known.set()
        return
    minutes = len(feed.instruments) * feed.exchange.instrument_status_weight / MAX_WEIGHT_PER_MINUTE
    pauses = delays(0.25, 15)
    while True:
        try:
            for instrument in feed.instruments:
                await _check_instrument(feed, rest_client, feed.exchange.instrument_status(instrument), instrument)
        except RestError as error:
            if not feed.instruments_known.is_set():
                feed.connection.set_down(error.reason)
            await feed.clock.sleep(max(next(pauses), error.retry_after))
        else:
            feed.instruments_known.set()
            pauses = delays(0.25, 15)
            await feed.clock.sleep(max(CHECK_INTERVAL_SECONDS, minutes * 60))


async def _check_instrument(feed: ExchangeFeed, rest_client: RestClient, ask: RestCall, instrument: Instrument) -> None:
    """Raises NoAnswer for what is no matter of this instrument alone."""
    try:
        events = await rest_client.get(ask)
    except RestError as error:
        if not error.request_specific or error.retry_after:
            raise
        if error.status in UNLISTED_STATUSES:
            feed.halted.discard(instrument)
            feed.on_events([InstrumentStatus(instrument, False, error.reason)])
        return
    for event in events:
        if isinstance(event, InstrumentStatus):
            (feed.halted.discard if event.trading else feed.halted.add)(instrument)
            feed.on_events([event])
