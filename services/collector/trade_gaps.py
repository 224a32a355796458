"""Fetches missing trades again; those that the exchange does not send become a feed gap."""

from services.collector.exchange_feed import ExchangeFeed
from services.collector.rest_client import RestClient, RestError
from services.core.model import Instrument
from services.core.trade_sequencer import TradeSequencer

REORDER_GRACE_MS = 300  # in which a missing trade may still arrive over the socket
ABANDON_AFTER_MS = 15_000
LEADING_ABANDON_AFTER_MS = 3_000  # for trades before the first that arrived
MAX_REFETCHED_TRADES = 5_000
GAP_CHECK_SECONDS = 0.1
REFETCH_PAUSE_SECONDS = 0.5  # after a request that did not close the gap
MAX_RETRY_AFTER_SECONDS = 5.0  # so that a gap is abandoned in time while requests are paused for long


async def refetch_missing_trades(feed: ExchangeFeed, rest_client: RestClient) -> None:
    """Close gaps in trade ids, where the exchange sends trades by id."""
    while feed.exchange.refetch_trades:
        await feed.clock.sleep(GAP_CHECK_SECONDS)
        for instrument, sequencer in feed.trades.items():
            age = 0 if sequencer.gap_since is None else feed.clock.monotonic() - sequencer.gap_since
            is_overdue = sequencer.awaits_lead or age > REORDER_GRACE_MS
            if is_overdue and sequencer.first_gap() and feed.connection.connected:
                await _fill_gap(feed, rest_client, instrument, age)


async def _fill_gap(feed: ExchangeFeed, rest_client: RestClient, instrument: Instrument, age: int) -> None:
    """Request the missing trades once. Abandon a gap that stays open for too long, or is too long to request."""
    sequencer = feed.trades[instrument]
    gap = sequencer.first_gap()
    if feed.exchange.refetch_trades and len(gap) <= MAX_REFETCHED_TRADES:
        try:
            feed.on_events(await rest_client.get(feed.exchange.refetch_trades(instrument, gap)))
        except RestError as error:
            await feed.clock.sleep(min(error.retry_after, MAX_RETRY_AFTER_SECONDS))
    if sequencer.first_gap() != gap:
        return
    if age > _patience_ms(sequencer) or len(gap) > MAX_REFETCHED_TRADES:
        feed.abandon_gap(instrument)
    else:
        await feed.clock.sleep(REFETCH_PAUSE_SECONDS)


def _patience_ms(sequencer: TradeSequencer) -> int:
    return LEADING_ABANDON_AFTER_MS if sequencer.awaits_lead else ABANDON_AFTER_MS
