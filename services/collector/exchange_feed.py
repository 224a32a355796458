"""The line to one exchange: what its connections and polls feed, and what the world is told of it."""

import asyncio
import logging
from collections import abc, defaultdict
from collections.abc import Iterable
from functools import partial

from services.clock_steps import read_both
from services.collector import metrics
from services.collector.connection_status import ConnectionStatus
from services.collector.validation import EventValidator
from services.core.bounds import EARLIEST_MS, LATEST_MS, MAX_EXCHANGE_LEAD_MS, clean_text
from services.core.clocks import WARNING_OFFSET_MS, ExchangeClock, WallClockOffset
from services.core.conversion import instruments_to_collect
from services.core.exchange import Event, Exchange, InstrumentStatus, SequencedQuote
from services.core.feeds import FeedTracker
from services.core.model import BackfillProgress, ExchangeStatus, FeedGap, FeedStatus, Instrument, Kline, Quote, Trade
from services.core.publish_queue import Publishable, PublishQueue
from services.core.trade_sequencer import TradeSequencer
from services.ports import Deps

log = logging.getLogger(__name__)

LEADING_TRADES = 1_000  # trades that are asked for at once, so that the minute in which we begin is whole
MIN_SILENCE_MS = 3_000  # ms; no shorter pause is called silence
MALFORMED_LOG_INTERVAL_MS = 60_000  # ms between two lines of the log on garbage
SKEW_WARNING_AFTER_MS = (
    5_000  # ms for which clocks differ before it is told: a moment in which we were slow looks the same
)
CAPACITY_CHECK_SECONDS = 0.005  # seconds between two looks at a crowded outbox
BUS_STALL_SECONDS = 0.5  # seconds after which the bus is taken to be stuck


class ExchangeFeed:
    """One exchange, as collected."""

    def __init__(self, exchange: Exchange, deps: Deps) -> None:
        settings = deps.settings
        self.exchange, self.deps, self.bus, self.clock = exchange, deps, deps.bus, deps.clock
        self.instruments = instruments_to_collect(exchange.name, settings.directions, settings.assets, settings.symbols)
        floor = MIN_SILENCE_MS if exchange.ws_urls else max(MIN_SILENCE_MS, exchange.poll_seconds * 2500)
        self.stamps = WallClockOffset(*read_both(deps.clock))
        self.exchange_clock = ExchangeClock(self.stamps.offset)
        holds = exchange.value_ttl and exchange.value_ttl * 1000
        self.tracker = FeedTracker(self.instruments, floor, holds, self.stamps, self.exchange_clock)
        lead = LEADING_TRADES if exchange.refetch_trades else 0
        self.trade_sequencers: defaultdict[Instrument, TradeSequencer] = defaultdict(partial(TradeSequencer, lead))
        self.queue, self.queue_changed = PublishQueue(settings.conflate_ms), asyncio.Event()
        self.halted: set[Instrument] = set()  # listed, but not traded: they have history
        self.instruments_known = asyncio.Event()  # it is known which instruments trade
        self.connection, self.validator = (
            ConnectionStatus(exchange, deps.clock),
            EventValidator(exchange.name, deps.clock),
        )
        self.last_received: int | None = None
        self.requests_paused_reason, self.requests_paused_until = (
            "",
            0,
        )  # why none is made, and until when by the monotonic clock
        self.backfill_progress: BackfillProgress | None = None
        self._unlogged_malformed, self._malformed_logged_at = 0, -MALFORMED_LOG_INTERVAL_MS
        self._skew_warned = False  # whether a warning said that the exchange's clock is not ours
        self._clocks_agreed_at = self.clock.monotonic()  # when it last was, or nearly so
        self._published_batches, self._bus_stalled = (
            0,
            False,
        )  # how often the bus has taken something, and whether it does no more
        self._message_counter = metrics.MESSAGES.labels(exchange.name)

    def wall_now(self) -> int:
        """Our wall time, for what is published."""
        return self.stamps.wall_time(self.clock.monotonic())

    def exchange_now(self) -> int:
        """The exchange's time: what is over is over by its clock, and a wall clock that is set changes nothing."""
        return self.exchange_clock.now(self.clock.monotonic())

    def sync_clock(self) -> None:
        """Follow our wall clock when it was set: what is said of the past is stamped anew. Compare it with theirs."""
        if self.stamps.update(*read_both(self.clock)):
            self.exchange_clock.assume(self.stamps.offset)
            self.queue.put(*self.tracker.latest_quotes())
            self.queue_changed.set()
        if self.clock_offset is not None:
            self._report_skew(self.clock_offset)

    @property
    def clock_offset(self) -> int | None:
        """By how much the exchange's clock is ahead of our wall clock, in ms."""
        return self.exchange_clock.offset - self.stamps.offset if self.exchange_clock.is_known else None

    def _report_skew(self, offset: int) -> None:
        metrics.CLOCK_OFFSET.labels(self.exchange.name).set(offset / 1000)
        now, differs = (
            self.clock.monotonic(),
            abs(offset) >= (WARNING_OFFSET_MS / 2 if self._skew_warned else WARNING_OFFSET_MS),
        )
        if not differs:
            self._clocks_agreed_at = now
        if self._skew_warned and not differs:
            log.info("%s: its clock agrees with ours again", self.exchange.name)
        elif self._skew_warned or now - self._clocks_agreed_at < SKEW_WARNING_AFTER_MS:
            return
        else:
            way = "behind" if offset < 0 else "ahead of"
            text = "%s: its clock is %.1f s %s ours: candles follow its clock; is this machine's clock right?"
            log.warning(text, self.exchange.name, abs(offset) / 1000, way)
        self._skew_warned = differs

    def validate(self, events: abc.Sequence[Event], now: int) -> abc.Sequence[Event]:
        """What was said at that monotonic time, without what cannot be so; its times are measured by its own clock."""
        clock = self.exchange_clock
        if now >= clock.next_event_at and self.exchange.value_ttl is None:  # else they are of values, which may be old
            clock.on_event(next(filter(None, map(_event_time, reversed(events))), None), now)
        return self.validator.check(events, clock.now(now) + MAX_EXCHANGE_LEAD_MS if clock.is_known else LATEST_MS)

    def on_events(self, events: Iterable[Event]) -> None:
        """What an exchange said of prices and of what it has."""
        now = self.clock.monotonic()
        news = list[Publishable]()
        for event in events:
            match event:
                case Trade() if event.instrument in self.tracker:
                    news += self.trade_sequencers[event.instrument].push(event, now)
                case SequencedQuote() if event.quote.instrument in self.tracker:
                    self._on_quote(event)
                case Kline() if event.series.instrument in self.tracker:
                    news.append(event)
                case InstrumentStatus() if self.tracker.set_trading(event.instrument, event.trading):
                    word = "is given again" if event.trading else f"is not given: {event.reason}"
                    log.info("%s: %s %s", self.exchange.name, event.instrument, clean_text(word))
        if news:
            self.enqueue(*news)

    def _on_quote(self, heard: SequencedQuote) -> None:
        self._report_silence(heard.quote)
        if not self._is_superseded(heard) and (tick := self.tracker.on_quote(heard)):
            self.enqueue(tick)

    def _is_superseded(self, heard: SequencedQuote) -> bool:
        """A polled quote, which has no number, may be older than what the stream said meanwhile."""
        last = self.tracker.last_received(heard.quote.instrument)
        return (
            bool(self.connection.open_sockets)
            and heard.sequence is None
            and last is not None
            and last >= self.connection.streaming_since
        )

    def _report_silence(self, tick: Quote) -> None:
        """Where nothing is numbered, who was silent on an open connection may have said what did not reach us."""
        now = tick.received - self.stamps.offset
        if self.exchange.refetch_trades or self.tracker.status(tick.instrument, now) is not FeedStatus.SILENT:
            return
        last = self.tracker.last_received(tick.instrument) or now
        if self.connection.open_sockets and last >= self.connection.streaming_since:
            since = self.stamps.wall_time(last)
            self.enqueue(FeedGap(self.exchange.name, since, tick.received, "it was silent", tick.instrument))

    async def wait_for_capacity(self) -> None:
        """Wait while more has come than the bus has taken. When it takes nothing one reads on: prices grow old."""
        waited = 0.0
        while self.queue.half_full and not self._bus_stalled:
            taken = self._published_batches
            await self.clock.sleep(CAPACITY_CHECK_SECONDS)
            waited = waited + CAPACITY_CHECK_SECONDS if self._published_batches == taken else 0.0
            self._bus_stalled = waited > BUS_STALL_SECONDS

    def on_published(self) -> None:
        """The bus has taken something."""
        self._published_batches, self._bus_stalled = self._published_batches + 1, False

    def enqueue(self, *news: Publishable) -> None:
        """To be published."""
        self.queue.put(*news)
        self.queue_changed.set()

    def expected_trade_ids(self) -> dict[Instrument, int]:
        """The number of the trade that comes next, where it is known."""
        return {
            instrument: sequence.expected_id
            for instrument, sequence in self.trade_sequencers.items()
            if sequence.expected_id is not None
        }

    def abandon_gap(self, instrument: Instrument) -> None:
        """Trades that cannot be had again become a gap, but for those before all that came."""
        sequence = self.trade_sequencers[instrument]
        if sequence.awaits_lead:
            self.enqueue(*sequence.skip_lead(self.clock.monotonic()))
            return
        missing = sequence.first_gap()
        trades, since, until = sequence.skip_gap(self.clock.monotonic())
        metrics.MISSED_TRADES.labels(self.exchange.name).inc(len(missing))
        reason = f"{len(missing)} trades from {missing.start} are missing"
        log.warning("%s: %s: %s", self.exchange.name, instrument, reason)
        self.enqueue(FeedGap(self.exchange.name, since, until, reason, instrument))
        self.enqueue(*trades)

    def on_message(self, now: int, messages: int = 1) -> None:
        """Something well-formed came."""
        self.last_received = now
        self._message_counter.inc(messages)

    def on_malformed(self, error: Exception) -> None:
        """Something came that cannot be understood. Said in the log once a minute at most."""
        metrics.MALFORMED.labels(self.exchange.name).inc()
        self._unlogged_malformed += 1
        now = self.clock.monotonic()
        if now - self._malformed_logged_at >= MALFORMED_LOG_INTERVAL_MS:
            said = clean_text(str(error))
            log.warning("%s: %d messages cannot be understood: %s", self.exchange.name, self._unlogged_malformed, said)
            self._unlogged_malformed, self._malformed_logged_at = 0, now

    def error_text(self, body: bytes) -> str:
        """What the body of a bad answer says; "" when it cannot be read."""
        try:
            return clean_text(self.exchange.error_text(body))
        except Exception:  # noqa: BLE001  whatever it is, it came from outside
            return ""

    def on_first_price(self, connection: object, host: str, now: int) -> None:
        """A connection gives its first price. Where nothing is numbered, what was said before is lost."""
        lost = self.connection.on_socket_open(connection, host, now)
        if lost and self.exchange.refetch_trades is None:
            since, reason = lost
            self.enqueue(FeedGap(self.exchange.name, self.stamps.wall_time(since), self.stamps.wall_time(now), reason))

    def status(self) -> ExchangeStatus:
        """What is known now."""
        now, link, wall = self.clock.monotonic(), self.connection, self.stamps.wall_time
        waits = link.connected and now < self.requests_paused_until
        return ExchangeStatus(
            exchange=self.exchange.name,
            time=wall(now),
            connected=link.connected,
            transport=link.transport,
            host=link.host,
            reason=clean_text(f"{link.reason}; requests wait: {self.requests_paused_reason}") if waits else link.reason,
            since=wall(link.since),
            received=None if self.last_received is None else wall(self.last_received),
            reconnects=link.reconnects,
            simulated=self.exchange.simulated,
            feeds=self.tracker.snapshot(now, link.streaming_since, link.last_alive if link.open_sockets else 0),
            backfill=self.backfill_progress,
            clock_offset=self.clock_offset,
        )


def _event_time(event: Event) -> int | None:
    """When something happened, by the exchange's clock."""
    time = event.time if isinstance(event, Trade) else event.quote.time if isinstance(event, SequencedQuote) else None
    return time if time is not None and EARLIEST_MS <= time <= LATEST_MS else None
