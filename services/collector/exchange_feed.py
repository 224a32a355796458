"""The line to one exchange: what its connections and polls feed, and what the world is told of it."""

import asyncio
import logging
from collections import abc, defaultdict
from collections.abc import Iterable
from functools import partial

from services.clock_steps import both
from services.collector import metrics
from services.collector.connection_status import Link
from services.collector.validation import Validator
from services.core.bounds import AHEAD, EARLIEST, LATEST, clean
from services.core.clocks import MARGIN, ExchangeClock, Stamps
from services.core.conversion import collected
from services.core.exchange import Event, Exchange, Heard, Presence
from services.core.feeds import Sources
from services.core.model import Feed, Gap, Instrument, Kline, Progress, State, Tick, Trade
from services.core.publish_queue import News, Outbox
from services.core.trade_sequencer import Sequence
from services.ports import Deps

log = logging.getLogger(__name__)

LEAD = 1_000  # trades that are asked for at once, so that the minute in which we begin is whole
FLOOR = 3_000  # ms; no shorter pause is called silence
COMPLAINTS = 60_000  # ms between two lines of the log on garbage
SKEWED = 5_000  # ms for which clocks differ before it is told: a moment in which we were slow looks the same
LOOK = 0.005  # seconds between two looks at a crowded outbox
PATIENCE = 0.5  # seconds after which the bus is taken to be stuck


class Line:
    """One exchange, as collected."""

    def __init__(self, exchange: Exchange, deps: Deps) -> None:
        settings = deps.settings
        self.exchange, self.deps, self.bus, self.clock = exchange, deps, deps.bus, deps.clock
        self.wanted = collected(exchange.name, settings.directions, settings.assets, settings.symbols)
        floor = FLOOR if exchange.sockets else max(FLOOR, exchange.poll_seconds * 2500)
        self.stamps = Stamps(*both(deps.clock))
        self.exchange_clock = ExchangeClock(self.stamps.offset)
        holds = exchange.holds and exchange.holds * 1000
        self.sources = Sources(self.wanted, floor, holds, self.stamps, self.exchange_clock)
        lead = LEAD if exchange.missed else 0
        self.sequences: defaultdict[Instrument, Sequence] = defaultdict(partial(Sequence, lead))
        self.outbox, self.some = Outbox(settings.conflate_ms), asyncio.Event()
        self.halted: set[Instrument] = set()  # listed, but not traded: they have history
        self.listed = asyncio.Event()  # it is known which instruments trade
        self.link, self.validator = Link(exchange, deps.clock), Validator(exchange.name, deps.clock)
        self.received: int | None = None
        self.requests_wait, self.requests_wait_until = "", 0  # why none is made, and until when by the monotonic clock
        self.history: Progress | None = None
        self._garbage, self._complained = 0, -COMPLAINTS
        self._skewed = False  # whether a warning said that the exchange's clock is not ours
        self._agreed = self.clock.monotonic()  # when it last was, or nearly so
        self._taken, self._stuck = 0, False  # how often the bus has taken something, and whether it does no more
        self._messages = metrics.MESSAGES.labels(exchange.name)

    def stamp(self) -> int:
        """Our wall time, for what is published."""
        return self.stamps.wall(self.clock.monotonic())

    def exchange_now(self) -> int:
        """The exchange's time: what is over is over by its clock, and a wall clock that is set changes nothing."""
        return self.exchange_clock.now(self.clock.monotonic())

    def follow_clock(self) -> None:
        """Follow our wall clock when it was set: what is said of the past is stamped anew. Compare it with theirs."""
        if self.stamps.look(*both(self.clock)):
            self.exchange_clock.assume(self.stamps.offset)
            self.outbox.put(*self.sources.quotes())
            self.some.set()
        if self.clock_offset is not None:
            self._report_skew(self.clock_offset)

    @property
    def clock_offset(self) -> int | None:
        """By how much the exchange's clock is ahead of our wall clock, in ms."""
        return self.exchange_clock.offset - self.stamps.offset if self.exchange_clock.known else None

    def _report_skew(self, offset: int) -> None:
        metrics.CLOCK_OFFSET.labels(self.exchange.name).set(offset / 1000)
        now, differs = self.clock.monotonic(), abs(offset) >= (MARGIN / 2 if self._skewed else MARGIN)
        if not differs:
            self._agreed = now
        if self._skewed and not differs:
            log.info("%s: its clock agrees with ours again", self.exchange.name)
        elif self._skewed or now - self._agreed < SKEWED:
            return
        else:
            way = "behind" if offset < 0 else "ahead of"
            text = "%s: its clock is %.1f s %s ours: candles follow its clock; is this machine's clock right?"
            log.warning(text, self.exchange.name, abs(offset) / 1000, way)
        self._skewed = differs

    def checked(self, events: abc.Sequence[Event], now: int) -> abc.Sequence[Event]:
        """What was said at that monotonic time, without what cannot be so; its times are measured by its own clock."""
        clock = self.exchange_clock
        if now >= clock.event_due and self.exchange.holds is None:  # else they are of values, which may be old
            clock.event(next(filter(None, map(_time, reversed(events))), None), now)
        return self.validator.check(events, clock.now(now) + AHEAD if clock.known else LATEST)

    def take(self, events: Iterable[Event]) -> None:
        """What an exchange said of prices and of what it has."""
        now = self.clock.monotonic()
        news = list[News]()
        for event in events:
            match event:
                case Trade() if event.instrument in self.sources:
                    news += self.sequences[event.instrument].take(event, now)
                case Heard() if event.tick.instrument in self.sources:
                    self._hear(event)
                case Kline() if event.series.instrument in self.sources:
                    news.append(event)
                case Presence() if self.sources.mark(event.instrument, event.present):
                    word = "is given again" if event.present else f"is not given: {event.reason}"
                    log.info("%s: %s %s", self.exchange.name, event.instrument, clean(word))
        if news:
            self.put(*news)

    def _hear(self, heard: Heard) -> None:
        self._note_silence(heard.tick)
        if not self._known_better(heard) and (tick := self.sources.heard(heard)):
            self.put(tick)

    def _known_better(self, heard: Heard) -> bool:
        """A polled quote, which has no number, may be older than what the stream said meanwhile."""
        last = self.sources.last(heard.tick.instrument)
        return bool(self.link.sockets) and heard.number is None and last is not None and last >= self.link.streaming

    def _note_silence(self, tick: Tick) -> None:
        """Where nothing is numbered, who was silent on an open connection may have said what did not reach us."""
        now = tick.received - self.stamps.offset
        if self.exchange.missed or self.sources.feed(tick.instrument, now) is not Feed.SILENT:
            return
        last = self.sources.last(tick.instrument) or now
        if self.link.sockets and last >= self.link.streaming:
            since = self.stamps.wall(last)
            self.put(Gap(self.exchange.name, since, tick.received, "it was silent", tick.instrument))

    async def room(self) -> None:
        """Wait while more has come than the bus has taken. When it takes nothing one reads on: prices grow old."""
        waited = 0.0
        while self.outbox.crowded and not self._stuck:
            taken = self._taken
            await self.clock.sleep(LOOK)
            waited = waited + LOOK if self._taken == taken else 0.0
            self._stuck = waited > PATIENCE

    def took(self) -> None:
        """The bus has taken something."""
        self._taken, self._stuck = self._taken + 1, False

    def put(self, *news: News) -> None:
        """To be published."""
        self.outbox.put(*news)
        self.some.set()

    def due(self) -> dict[Instrument, int]:
        """The number of the trade that comes next, where it is known."""
        return {instrument: sequence.due for instrument, sequence in self.sequences.items() if sequence.due is not None}

    def give_up(self, instrument: Instrument) -> None:
        """Trades that cannot be had again become a gap, but for those before all that came."""
        sequence = self.sequences[instrument]
        if sequence.leading:
            self.put(*sequence.begin(self.clock.monotonic()))
            return
        missing = sequence.missing()
        trades, since, until = sequence.give_up(self.clock.monotonic())
        metrics.MISSED.labels(self.exchange.name).inc(len(missing))
        reason = f"{len(missing)} trades from {missing.start} are missing"
        log.warning("%s: %s: %s", self.exchange.name, instrument, reason)
        self.put(Gap(self.exchange.name, since, until, reason, instrument))
        self.put(*trades)

    def alive(self, now: int, messages: int = 1) -> None:
        """Something well-formed came."""
        self.received = now
        self._messages.inc(messages)

    def garbage(self, error: Exception) -> None:
        """Something came that cannot be understood. Said in the log once a minute at most."""
        metrics.GARBAGE.labels(self.exchange.name).inc()
        self._garbage += 1
        now = self.clock.monotonic()
        if now - self._complained >= COMPLAINTS:
            said = clean(str(error))
            log.warning("%s: %d messages cannot be understood: %s", self.exchange.name, self._garbage, said)
            self._garbage, self._complained = 0, now

    def complaint(self, body: bytes) -> str:
        """What the body of a bad answer says; "" when it cannot be read."""
        try:
            return clean(self.exchange.complaint(body))
        except Exception:  # noqa: BLE001  whatever it is, it came from outside
            return ""

    def opened(self, connection: object, host: str, now: int) -> None:
        """A connection gives its first price. Where nothing is numbered, what was said before is lost."""
        lost = self.link.opened(connection, host, now)
        if lost and self.exchange.missed is None:
            since, reason = lost
            self.put(Gap(self.exchange.name, self.stamps.wall(since), self.stamps.wall(now), reason))

    def state(self) -> State:
        """What is known now."""
        now, link, wall = self.clock.monotonic(), self.link, self.stamps.wall
        waits = link.connected and now < self.requests_wait_until
        return State(
            exchange=self.exchange.name,
            time=wall(now),
            connected=link.connected,
            transport=link.transport,
            host=link.host,
            reason=clean(f"{link.reason}; requests wait: {self.requests_wait}") if waits else link.reason,
            since=wall(link.since),
            received=None if self.received is None else wall(self.received),
            reconnects=link.reconnects,
            simulated=self.exchange.simulated,
            sources=self.sources.view(now, link.streaming, link.proof if link.sockets else 0),
            history=self.history,
            clock_offset=self.clock_offset,
        )


def _time(event: Event) -> int | None:
    """When something happened, by the exchange's clock."""
    time = event.time if isinstance(event, Trade) else event.tick.time if isinstance(event, Heard) else None
    return time if time is not None and EARLIEST <= time <= LATEST else None
