"""News to this process's listeners: the newest of everything, at hand without a wait."""

from collections.abc import Callable, Iterable
from typing import Protocol

from services.core.journal import topic_of
from services.core.markets import LIVE, Market
from services.core.model import ActiveExchange, Candle, ExchangeStatus, Message, Rate, Sequenced
from services.core.sender_clocks import STAMP_JITTER_MS, SenderClocks, shift_stamps

PRICER = "the pricer"


class ReadableClock(Protocol):
    """Wall and monotonic time in ms."""

    def now(self) -> int:
        """Wall time."""

    def monotonic(self) -> int:
        """Monotonic time."""


class Hub:
    """What this process last received: the stamps of `rates`, `states` and `choice` are this process's monotonic time.

    `version` grows with each change, so that a reader knows when to look again.
    """

    def __init__(self, clock: ReadableClock, market: Market = LIVE) -> None:
        self.version = 0
        self.rates: dict[str, Rate] = {}
        self.exchange_statuses: dict[str, ExchangeStatus] = {}
        self.active_exchange: ActiveExchange | None = None
        self.dead_letters: int | None = None  # that are kept; None: nobody has looked yet
        self.market = market  # what everything here comes from
        self._clock = clock
        self._senders = SenderClocks()
        self._wall_offset: int | None = None  # of wall to monotonic time, when the pricer's clock and ours agreed last
        self._received: dict[
            str, dict[str, Rate | ExchangeStatus | ActiveExchange]
        ] = {}  # as they came, by log and key
        self._exchange_offsets: dict[str, int] = {}  # what makes an exchange's time of monotonic time
        self._candle_listeners: list[Callable[[Candle], None]] = []
        self._sequenced_listeners: list[Callable[[Sequenced], None]] = []
        self._close_listeners: list[Callable[[], None]] = []

    def on_candle(self, listener: Callable[[Candle], None]) -> None:
        """Tell `listener` of every candle from now on."""
        self._candle_listeners.append(listener)

    def on_sequenced(self, follower: Callable[[Sequenced], None]) -> None:
        """Tell `follower` of everything that has a place in a log, in the order in which it is heard."""
        self._sequenced_listeners.append(follower)

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call `closer` before this process stops serving: who listens has to be told."""
        self._close_listeners.append(closer)

    def close(self) -> None:
        """Nothing more will come."""
        for closer in self._close_listeners:
            closer()

    def apply(self, message: Message) -> None:
        """Take in a message that came just now."""
        if isinstance(message, Candle):
            for listener in self._candle_listeners:
                listener(message)
        elif isinstance(message, Rate | ExchangeStatus | ActiveExchange):
            self._received.setdefault(topic_of(message), {})[_topic_key(message)] = message
            self._store_latest(message, self._senders.to_monotonic)
        if isinstance(message, Sequenced) and message.position:
            for follower in self._sequenced_listeners:
                follower(message)

    def restore(self, messages: Iterable[Rate | ExchangeStatus | ActiveExchange]) -> None:
        """Begin with what was kept of earlier; what is known already is newer."""
        for message in messages:
            sent = self._received.setdefault(topic_of(message), {})
            if _topic_key(message) not in sent:
                sent[_topic_key(message)] = message
                self._store_latest(message, self._senders.value_to_monotonic)

    def latest_messages(self, log: str, key: str = "") -> list[Rate | ExchangeStatus | ActiveExchange]:
        """The newest messages of a log as they came, or the one of a key."""
        known = self._received.get(log, {})
        return [message for name, message in known.items() if not key or name == key]

    def wall_offset(self) -> int:
        """What makes wall times of monotonic ones. It holds while our clock is not the pricer's, as after a step."""
        return self._clock.now() - self._clock.monotonic() if self._wall_offset is None else self._wall_offset

    def exchange_now(self, exchange: str) -> int:
        """The exchange's time, as its collector knows it; ours while that is unknown."""
        offset = self._exchange_offsets.get(exchange)
        return self._clock.now() if offset is None else self._clock.monotonic() + offset

    def clock_fault(self, sender: str) -> str:
        """What is wrong with the clock of an exchange's collector, or of the `PRICER`; empty when nothing is known."""
        return self._senders.describe_fault(sender, self._clock.monotonic())

    def _latest(self, message: Rate | ExchangeStatus | ActiveExchange) -> Rate | ExchangeStatus | ActiveExchange | None:
        match message:
            case Rate():
                return self.rates.get(str(message.direction))
            case ExchangeStatus():
                return self.exchange_statuses.get(message.exchange)
            case ActiveExchange():
                return self.active_exchange

    def _store_latest(
        self, message: Rate | ExchangeStatus | ActiveExchange, offset: Callable[[str, int, int, int], int | None]
    ) -> None:
        """Of what comes from the future nobody knows the age: what is known already goes on aging, as it does when what
        comes seems older than that.
        """
        sender = message.exchange if isinstance(message, ExchangeStatus) else PRICER
        monotonic = self._clock.monotonic()  # before the other: should we be stopped in between, all seems older
        by = offset(sender, message.time, self._clock.now(), monotonic)
        known = self._latest(message)
        if by is None or (known and message.time + by < known.time - STAMP_JITTER_MS):
            return
        if sender == PRICER:
            self._wall_offset = -by
        match message:
            case Rate():
                self.rates[str(message.direction)] = shift_stamps(message, by)
            case ExchangeStatus():
                self.exchange_statuses[message.exchange] = shift_stamps(message, by)
                if message.clock_offset is not None:
                    self._exchange_offsets[message.exchange] = message.clock_offset - by
            case ActiveExchange():
                self.active_exchange = shift_stamps(message, by)
        self.version += 1


def _topic_key(message: Rate | ExchangeStatus | ActiveExchange) -> str:
    """What tells those of one log apart."""
    return str(message.direction) if isinstance(message, Rate) else ""
