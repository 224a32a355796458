"""Sequencers of one exchange's trades: each trade passes once and in order, missing ones are known."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

from services.collector import metrics
from services.core.model import FeedGap, Instrument, Trade
from services.core.publish_queue import Publishable
from services.core.trade_sequencer import TradeSequencer

LEADING_TRADES = 1_000  # fetched at once before the first trade, so that the minute of the start is whole
log = logging.getLogger(__name__)


class TradeSequencers:
    """A sequencer per instrument. `refetches`: the exchange sends missing trades again."""

    def __init__(self, exchange: str, *, refetches: bool) -> None:
        self._exchange = exchange
        lead = LEADING_TRADES if refetches else 0
        self._by_instrument: defaultdict[Instrument, TradeSequencer] = defaultdict(partial(TradeSequencer, lead))

    def __getitem__(self, instrument: Instrument) -> TradeSequencer:
        return self._by_instrument[instrument]

    def items(self) -> Iterator[tuple[Instrument, TradeSequencer]]:
        """Iterate over the instruments of which trades arrived; a copy, so more may arrive meanwhile."""
        yield from tuple(self._by_instrument.items())

    def push(self, trade: Trade, now: int) -> Sequence[Trade]:
        """Add a trade. Return those that may be published, oldest first."""
        return self._by_instrument[trade.instrument].push(trade, now)

    def expected_ids(self) -> dict[Instrument, int]:
        """Return the id of the next trade per instrument, where it is known."""
        ids = ((instrument, sequencer.expected_id) for instrument, sequencer in self._by_instrument.items())
        return {instrument: trade_id for instrument, trade_id in ids if trade_id is not None}

    def abandon_gap(self, instrument: Instrument, now: int) -> list[Publishable]:
        """Go on without the missing trades. Return what may be published: a feed gap, and the trades behind it.

        Trades before the very first that arrived make no gap.
        """
        sequencer = self._by_instrument[instrument]
        if sequencer.awaits_lead:
            return [*sequencer.skip_lead(now)]
        missing = sequencer.first_gap()
        trades, since, until = sequencer.skip_gap(now)
        metrics.MISSED_TRADES.labels(self._exchange).inc(len(missing))
        reason = f"{len(missing)} trades from {missing.start} are missing"
        log.warning("%s: %s: %s", self._exchange, instrument, reason)
        return [FeedGap(self._exchange, since, until, reason, instrument), *trades]
