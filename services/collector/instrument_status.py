"""Polls which instruments trade. Of one that does not trade only klines are collected."""

from services.collector.exchange_feed import ExchangeFeed
from services.collector.rest_client import RestClient, RestError
from services.core.backoff import delays
from services.core.exchange import InstrumentStatus, RestCall
from services.core.model import Instrument

LISTING_CHECK_SECONDS = 30.0
UNLISTED_STATUSES = (400, 404)  # of a response about an instrument that the exchange does not list
MAX_WEIGHT_PER_MINUTE = 600  # so that many instruments are checked less often
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.25, 15.0


async def watch_instruments(feed: ExchangeFeed, rest_client: RestClient) -> None:
    """Check all instruments before the first connection, and again at intervals."""
    if feed.exchange.instrument_status is None:
        feed.instruments_known.set()
        return
    minutes = len(feed.instruments) * feed.exchange.instrument_status_weight / MAX_WEIGHT_PER_MINUTE
    pauses = delays(FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
    while True:
        try:
            for instrument in feed.instruments:
                await _check_instrument(feed, rest_client, feed.exchange.instrument_status(instrument), instrument)
        except RestError as error:
            if not feed.instruments_known.is_set():
                feed.connection.on_request_error(error.reason)
            await feed.clock.sleep(max(next(pauses), error.retry_after))
        else:
            feed.instruments_known.set()
            pauses = delays(FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
            await feed.clock.sleep(max(LISTING_CHECK_SECONDS, minutes * 60))


async def _check_instrument(
    feed: ExchangeFeed, rest_client: RestClient, call: RestCall, instrument: Instrument
) -> None:
    """Check one instrument. Raises RestError for an error that is not about this instrument alone."""
    try:
        events = await rest_client.get(call)
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
