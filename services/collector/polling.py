"""Prices by REST, where there is no socket or when a new one does not know everything yet."""

from services.collector.exchange_feed import ExchangeFeed
from services.collector.rest_client import RestClient, RestError
from services.core.backoff import delays

POLL_WITHOUT_SOCKET_SECONDS = 2.0  # seconds without a socket after which polling begins
SECONDS_PER_CALL = 0.1  # seconds per call; whoever asks for more instruments polls less often
SOCKET_CHECK_SECONDS = 0.25  # seconds between two looks at the socket


async def poll_prices(feed: ExchangeFeed, rest_client: RestClient) -> None:
    """Prices by REST: always where there are no sockets, else while none is up, and once when one has opened."""
    if feed.exchange.poll is None:
        return
    await feed.instruments_known.wait()
    limit = max(15.0, feed.exchange.poll_seconds)
    pauses = delays(0.5, limit)
    while True:
        await _until_needed(feed)
        feed.connection.needs_initial_poll = False
        asks = feed.exchange.poll(feed.tracker.traded(), feed.expected_trade_ids())
        try:
            for ask in asks:
                feed.on_events(await rest_client.get(ask))
                feed.on_message(feed.clock.monotonic())
                feed.connection.on_poll(rest_client.host)
        except RestError as error:
            feed.connection.needs_initial_poll = bool(feed.connection.open_sockets)
            feed.connection.set_down(error.reason)
            await feed.clock.sleep(max(next(pauses), error.retry_after))
        else:
            pauses = delays(0.5, limit)
            await feed.clock.sleep(max(feed.exchange.poll_seconds, SECONDS_PER_CALL * len(asks)))


async def _until_needed(feed: ExchangeFeed) -> None:
    """Return when there has been no socket for a while, or a new one does not know everything yet."""
    quiet, link = 0.0, feed.connection
    while (
        feed.exchange.ws_urls
        and quiet < POLL_WITHOUT_SOCKET_SECONDS
        and link.transport != "polling"
        and not link.needs_initial_poll
    ):
        await feed.clock.sleep(SOCKET_CHECK_SECONDS)
        quiet = 0.0 if link.open_sockets else quiet + SOCKET_CHECK_SECONDS
