"""Feed of one exchange: what its sockets and polls deliver, checked and queued for the bus, and its status."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.collector import metrics
from services.collector.connection_status import ConnectionStatus
from services.collector.feed_clock import FeedClock
from services.collector.outgoing_queue import OutgoingQueue
from services.collector.trade_sequencers import TradeSequencers
from services.collector.validation import EventValidator
from services.core.bounds import EARLIEST_MS, LATEST_MS, MAX_EXCHANGE_LEAD_MS, clean_text
from services.core.exchange import Event, Exchange, InstrumentStatus, SequencedQuote
from services.core.feeds import FeedTracker
from services.core.model import BackfillProgress, ExchangeStatus, FeedGap, FeedStatus, Instrument, Kline, Quote, Trade
from services.core.publish_queue import Publishable
from services.exchanges import instruments_to_collect
from services.log_throttle import ThrottledLog
from services.ports import Bus, Clock
from services.settings import Settings

log = logging.getLogger(__name__)

MIN_SILENCE_MS = 3_000  # no shorter pause counts as silence
MIN_SILENCE_POLLS = 2.5  # nor a shorter one in polls, where there is no socket


class RequestPause(NamedTuple):
    """A time in which no REST request is sent. `until` is of the monotonic clock, in ms."""

    reason: str = ""
    until: int = 0


class ExchangeFeed:
    """One exchange, as its collector sees it. Times are of the monotonic clock, in ms, unless a name says otherwise."""

    def __init__(self, exchange: Exchange, *, settings: Settings, bus: Bus, clock: Clock) -> None:
        self.exchange, self.settings, self.bus, self.clock = exchange, settings, bus, clock
        self.instruments = instruments_to_collect(exchange.name, settings)
        self.clocks = FeedClock(exchange.name, clock)
        self.tracker = _tracker(exchange, self.instruments, self.clocks)
        self.trades = TradeSequencers(exchange.name, refetches=exchange.refetch_trades is not None)
        self.queue = OutgoingQueue(settings.conflate_ms, clock)
        self.connection = ConnectionStatus(exchange, clock)
        self.halted: set[Instrument] = set()  # listed and not trading: only their klines are collected
        self.instruments_known = asyncio.Event()  # set when it is known which instruments trade
        self.last_received: int | None = None
        self.request_pause = RequestPause()
        self.backfill_progress: BackfillProgress | None = None
        self._validator, self._malformed_log = EventValidator(exchange.name), ThrottledLog(log)
        self._message_counter = metrics.MESSAGES.labels(exchange.name)

    def sync_clock(self) -> None:
        """Follow our wall clock. When it was set, the last quotes are published again with stamps of the new time."""
        if self.clocks.sync():
            self.queue.put(*self.tracker.latest_quotes())

    def validate(self, events: Sequence[Event], now: int) -> Sequence[Event]:
        """Return the events with those that are out of range as InvalidValue. Their times set the exchange's clock."""
        clock = self.clocks.exchange
        if now >= clock.next_event_at and self.exchange.value_ttl is None:  # a value from a cache has an old time
            clock.on_event(next(filter(None, map(_event_time, reversed(events))), None), now)
        return self._validator.check(events, clock.now(now) + MAX_EXCHANGE_LEAD_MS if clock.is_known else LATEST_MS)

    def on_events(self, events: Iterable[Event]) -> None:
        """Queue trades, quotes and klines of instruments that trade, and note which do."""
        now = self.clock.monotonic()
        publishable = list[Publishable]()
        for event in events:
            match event:
                case Trade() if event.instrument in self.tracker:
                    publishable += self.trades.push(event, now)
                case SequencedQuote() if event.quote.instrument in self.tracker:
                    self._on_quote(event)
                case Kline() if event.series.instrument in self.tracker:
                    publishable.append(event)
                case InstrumentStatus() if self.tracker.set_trading(event.instrument, event.trading):
                    text = "trades again" if event.trading else f"does not trade: {event.reason}"
                    log.info("%s: %s %s", self.exchange.name, event.instrument, clean_text(text))
        if publishable:
            self.queue.put(*publishable)

    def _on_quote(self, sequenced: SequencedQuote) -> None:
        self._report_silence(sequenced.quote)
        if not self._is_superseded(sequenced) and (quote := self.tracker.on_quote(sequenced)):
            self.queue.put(quote)

    def _is_superseded(self, sequenced: SequencedQuote) -> bool:
        """Return whether a quote is polled, and so may be older than one that the open socket delivered meanwhile."""
        return sequenced.sequence is None and self._socket_delivered(sequenced.quote.instrument)

    def _socket_delivered(self, instrument: Instrument) -> bool:
        last, connection = self.tracker.last_received(instrument), self.connection
        return bool(connection.open_sockets) and last is not None and last >= connection.streaming_since

    def _report_silence(self, quote: Quote) -> None:
        """Queue a feed gap when the first quote ends a silence on an open socket.

        Where trades have ids a missing one is noticed by its id.
        """
        now = quote.received - self.clocks.wall.offset
        if self.exchange.refetch_trades or self.tracker.status(quote.instrument, now) is not FeedStatus.SILENT:
            return
        if self._socket_delivered(quote.instrument):
            since = self.clocks.wall.wall_time(self.tracker.last_received(quote.instrument) or now)
            gap = FeedGap(self.exchange.name, since, quote.received, "no message while connected", quote.instrument)
            self.queue.put(gap)

    def abandon_gap(self, instrument: Instrument) -> None:
        """Publish a feed gap in place of the missing trades, and the trades behind it."""
        self.queue.put(*self.trades.abandon_gap(instrument, self.clock.monotonic()))

    def on_message(self, now: int, messages: int = 1) -> None:
        """Count well-formed messages."""
        self.last_received = now
        self._message_counter.inc(messages)

    def on_malformed(self, error: Exception) -> None:
        """Count and log a message that cannot be parsed."""
        metrics.MALFORMED.labels(self.exchange.name).inc()
        text = "%s: a message cannot be parsed: %s"
        self._malformed_log.warning(text, self.exchange.name, clean_text(str(error)))

    def error_text(self, body: bytes) -> str:
        """Return the exchange's text in the body of an error; "" if the body cannot be read."""
        try:
            return clean_text(self.exchange.error_text(body))
        except Exception:  # noqa: BLE001  whatever is wrong with it came from outside
            return ""

    def on_first_price(self, socket: object, host: str, now: int) -> None:
        """Note that a socket delivers. Where trades have no ids, what was sent since the last socket is a feed gap."""
        lost = self.connection.on_socket_open(socket, host, now)
        if lost and self.exchange.refetch_trades is None:
            since, until = (self.clocks.wall.wall_time(moment) for moment in (lost.last_alive, now))
            self.queue.put(FeedGap(self.exchange.name, since, until, lost.reason))

    def status(self) -> ExchangeStatus:
        """Return the current status, with times of our wall clock."""
        now, connection, wall_time = self.clock.monotonic(), self.connection, self.clocks.wall.wall_time
        reason, pause = connection.reason, self.request_pause
        if connection.connected and now < pause.until:
            reason = clean_text(f"{reason}; requests paused: {pause.reason}")
        last_alive = connection.last_alive if connection.open_sockets else 0
        return ExchangeStatus(
            exchange=self.exchange.name,
            time=wall_time(now),
            connected=connection.connected,
            transport=connection.transport.value,
            host=connection.host,
            reason=reason,
            since=wall_time(connection.since),
            received=None if self.last_received is None else wall_time(self.last_received),
            reconnects=connection.reconnects,
            simulated=self.exchange.simulated,
            feeds=self.tracker.snapshot(now, connection.streaming_since, last_alive),
            backfill=self.backfill_progress,
            clock_offset=self.clocks.offset,
        )


def _tracker(exchange: Exchange, instruments: Sequence[Instrument], clocks: FeedClock) -> FeedTracker:
    poll_ms = 0 if exchange.ws_urls else MIN_SILENCE_POLLS * exchange.poll_seconds * 1000
    value_ttl = exchange.value_ttl and exchange.value_ttl * 1000
    return FeedTracker(instruments, max(MIN_SILENCE_MS, poll_ms), value_ttl, clocks.wall, clocks.exchange)


def _event_time(event: Event) -> int | None:
    """Return when something happened by the exchange's clock, where that can be so."""
    time = event.time if isinstance(event, Trade) else event.quote.time if isinstance(event, SequencedQuote) else None
    return time if time is not None and EARLIEST_MS <= time <= LATEST_MS else None
