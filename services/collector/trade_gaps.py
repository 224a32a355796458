"""Trades that are missing: they are asked for again, and those that cannot be had become a gap."""

from services.collector.exchange_feed import ExchangeFeed
from services.collector.rest_client import RestClient, RestError
from services.core.model import Instrument

REORDER_GRACE_MS = 300  # ms in which a missing trade may still come by itself
ABANDON_AFTER_MS = 15_000  # ms after which missing trades are given up
LEADING_ABANDON_AFTER_MS = 3_000  # ms after which those before the first that came are
MAX_REFETCHED_TRADES = 5_000  # missing trades that are asked for
GAP_CHECK_SECONDS = 0.1  # seconds between two looks
REFETCH_PAUSE_SECONDS = 0.5  # seconds after a question in vain


async def refetch_missing_trades(feed: ExchangeFeed, rest_client: RestClient) -> None:
    """Close holes as they open, where the exchange tells its trades again."""
    while feed.exchange.refetch_trades:
        await feed.clock.sleep(GAP_CHECK_SECONDS)
        for instrument, sequence in tuple(feed.trade_sequencers.items()):
            age = 0 if sequence.gap_since is None else feed.clock.monotonic() - sequence.gap_since
            if (
                age > (-1 if sequence.awaits_lead else REORDER_GRACE_MS)
                and sequence.first_gap()
                and feed.connection.connected
            ):
                await _fill_gap(feed, rest_client, instrument, age)


async def _fill_gap(feed: ExchangeFeed, rest_client: RestClient, instrument: Instrument, age: int) -> None:
    """Ask for a hole's trades; give up when that was in vain for too long, or when they are too many to ask for."""
    sequence = feed.trade_sequencers[instrument]
    hole = sequence.first_gap()
    if feed.exchange.refetch_trades and len(hole) <= MAX_REFETCHED_TRADES:
        try:
            feed.on_events(await rest_client.get(feed.exchange.refetch_trades(instrument, hole)))
        except RestError as error:
            await feed.clock.sleep(min(error.retry_after, 5))
    if sequence.first_gap() != hole:
        return
    if (
        age > (LEADING_ABANDON_AFTER_MS if sequence.awaits_lead else ABANDON_AFTER_MS)
        or len(hole) > MAX_REFETCHED_TRADES
    ):
        feed.abandon_gap(instrument)
    else:
        await feed.clock.sleep(REFETCH_PAUSE_SECONDS)
