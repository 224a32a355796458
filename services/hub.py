"""In-process cache of the latest rates, exchange statuses and active exchange, with local publish/subscribe."""

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
    """The latest messages that this process received.

    Times in `rates`, `exchange_statuses` and `active_exchange` are this process's monotonic time in ms. `version` grows
    with each change of them.
    """

    def __init__(self, clock: ReadableClock, market: Market = LIVE) -> None:
        self.version = 0
        self.rates: dict[str, Rate] = {}
        self.exchange_statuses: dict[str, ExchangeStatus] = {}
        self.active_exchange: ActiveExchange | None = None
        self.dead_letters: int | None = None  # number of them; None: not known yet
        self.market = market
        self._clock = clock
        self._senders = SenderClocks()
        self._wall_offset: int | None = None  # wall minus monotonic time, when the pricer's clock and ours last agreed
        # As received, by topic and key.
        self._received: dict[str, dict[str, Rate | ExchangeStatus | ActiveExchange]] = {}
        self._exchange_offsets: dict[str, int] = {}  # exchange's time minus monotonic time
        self._candle_listeners: list[Callable[[Candle], None]] = []
        self._sequenced_listeners: list[Callable[[Sequenced], None]] = []
        self._close_listeners: list[Callable[[], None]] = []

    def on_candle(self, listener: Callable[[Candle], None]) -> None:
        """Call `listener` with every candle from now on."""
        self._candle_listeners.append(listener)

    def on_sequenced(self, listener: Callable[[Sequenced], None]) -> None:
        """Call `listener` with every sequenced message from now on, in the order of receipt."""
        self._sequenced_listeners.append(listener)

    def on_close(self, listener: Callable[[], None]) -> None:
        """Call `listener` before this process stops serving, so that it can notify its clients."""
        self._close_listeners.append(listener)

    def close(self) -> None:
        """Call the close listeners."""
        for listener in self._close_listeners:
            listener()

    def apply(self, message: Message) -> None:
        """Store a message that has just been received, and call the listeners."""
        if isinstance(message, Candle):
            for listener in self._candle_listeners:
                listener(message)
        elif isinstance(message, Rate | ExchangeStatus | ActiveExchange):
            self._received.setdefault(topic_of(message), {})[_topic_key(message)] = message
            self._store_latest(message, self._senders.to_monotonic)
        if isinstance(message, Sequenced) and message.position:
            for on_sequenced in self._sequenced_listeners:
                on_sequenced(message)

    def restore(self, messages: Iterable[Rate | ExchangeStatus | ActiveExchange]) -> None:
        """Store earlier messages, unless a newer one of the same key has been received."""
        for message in messages:
            received = self._received.setdefault(topic_of(message), {})
            if _topic_key(message) not in received:
                received[_topic_key(message)] = message
                self._store_latest(message, self._senders.value_to_monotonic)

    def latest_messages(self, topic: str, key: str = "") -> list[Rate | ExchangeStatus | ActiveExchange]:
        """Return the latest messages of a topic as received, or the one of a key."""
        latest = self._received.get(topic, {})
        return [message for name, message in latest.items() if not key or name == key]

    def wall_offset(self) -> int:
        """Return wall minus monotonic time. While our clock differs from the pricer's, as after a step, it stays."""
        return self._clock.now() - self._clock.monotonic() if self._wall_offset is None else self._wall_offset

    def exchange_now(self, exchange: str) -> int:
        """Return the exchange's time in ms as its collector measured it, or this machine's while that is unknown."""
        offset = self._exchange_offsets.get(exchange)
        return self._clock.now() if offset is None else self._clock.monotonic() + offset

    def clock_fault(self, sender: str) -> str:
        """Return what is wrong with the clock of an exchange's collector or of the `PRICER`; "" if nothing."""
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
        """Store a message with its time as our monotonic time.

        The age of a message from the future is unknown. The stored one then stays and ages, as it does when the message
        seems older than it.
        """
        sender = message.exchange if isinstance(message, ExchangeStatus) else PRICER
        # It is read first: if the process is stopped in between, messages seem older, not newer.
        monotonic = self._clock.monotonic()
        shift = offset(sender, message.time, self._clock.now(), monotonic)
        latest = self._latest(message)
        if shift is None or (latest and message.time + shift < latest.time - STAMP_JITTER_MS):
            return
        if sender == PRICER:
            self._wall_offset = -shift
        match message:
            case Rate():
                self.rates[str(message.direction)] = shift_stamps(message, shift)
            case ExchangeStatus():
                self.exchange_statuses[message.exchange] = shift_stamps(message, shift)
                if message.clock_offset is not None:
                    self._exchange_offsets[message.exchange] = message.clock_offset - shift
            case ActiveExchange():
                self.active_exchange = shift_stamps(message, shift)
        self.version += 1


def _topic_key(message: Rate | ExchangeStatus | ActiveExchange) -> str:
    """Return the key of a message within its topic."""
    return str(message.direction) if isinstance(message, Rate) else ""
