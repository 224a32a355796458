"""Prices by REST: where the exchange has no socket, while none is open, and once after one has opened."""

from services.collector.connection_status import Transport
from services.collector.exchange_feed import ExchangeFeed
from services.collector.rest_client import RestClient, RestError
from services.core.backoff import delays

POLL_WITHOUT_SOCKET_SECONDS = 2.0  # without a socket, after which polling begins
SECONDS_PER_CALL = 0.1  # so that more instruments are polled less often
SOCKET_CHECK_SECONDS = 0.25
FIRST_RETRY_SECONDS, MIN_MAX_RETRY_SECONDS = 0.5, 15.0


async def poll_prices(feed: ExchangeFeed, rest_client: RestClient) -> None:
    """Poll whenever no socket delivers, and once when one has opened: a socket sends only what changes."""
    if feed.exchange.poll is None:
        return
    await feed.instruments_known.wait()
    max_retry = max(MIN_MAX_RETRY_SECONDS, feed.exchange.poll_seconds)
    pauses = delays(FIRST_RETRY_SECONDS, max_retry)
    while True:
        await _until_needed(feed)
        feed.connection.needs_initial_poll = False
        calls = feed.exchange.poll(feed.tracker.traded(), feed.trades.expected_ids())
        try:
            for call in calls:
                feed.on_events(await rest_client.get(call))
                feed.on_message(feed.clock.monotonic())
                feed.connection.on_poll(rest_client.host)
        except RestError as error:
            feed.connection.needs_initial_poll = bool(feed.connection.open_sockets)
            feed.connection.on_request_error(error.reason)
            await feed.clock.sleep(max(next(pauses), error.retry_after))
        else:
            pauses = delays(FIRST_RETRY_SECONDS, max_retry)
            await feed.clock.sleep(max(feed.exchange.poll_seconds, SECONDS_PER_CALL * len(calls)))


async def _until_needed(feed: ExchangeFeed) -> None:
    """Wait until no socket was open for a while, or a new one needs the values that do not change."""
    seconds, connection = 0.0, feed.connection
    if not feed.exchange.ws_urls:
        return
    while (
        seconds < POLL_WITHOUT_SOCKET_SECONDS
        and connection.transport is not Transport.POLLING
        and not connection.needs_initial_poll
    ):
        await feed.clock.sleep(SOCKET_CHECK_SECONDS)
        seconds = 0.0 if connection.open_sockets else seconds + SOCKET_CHECK_SECONDS
