"""News to this process's listeners: the newest of everything, at hand without a wait."""

from collections.abc import Callable, Iterable
from typing import Protocol

from services.core.journal import log_of
from services.core.markets import LIVE, Market
from services.core.model import Candle, Choice, Message, Placed, Rate, State
from services.core.sender_clocks import JITTER, SenderClocks, shifted

PRICER = "the pricer"


class Clock(Protocol):
    """Wall and monotonic time in ms."""

    def now(self) -> int:
        """Wall time."""

    def monotonic(self) -> int:
        """Monotonic time."""


class Hub:
    """What this process last received: the stamps of `rates`, `states` and `choice` are this process's monotonic time.

    `version` grows with each change, so that a reader knows when to look again.
    """

    def __init__(self, clock: Clock, market: Market = LIVE) -> None:
        self.version = 0
        self.rates: dict[str, Rate] = {}
        self.states: dict[str, State] = {}
        self.choice: Choice | None = None
        self.dead_letters: int | None = None  # that are kept; None: nobody has looked yet
        self.market = market  # what everything here comes from
        self._clock = clock
        self._senders = SenderClocks()
        self._offset: int | None = None  # of wall to monotonic time, when the pricer's clock and ours agreed last
        self._sent: dict[str, dict[str, Rate | State | Choice]] = {}  # as they came, by log and key
        self._clocks: dict[str, int] = {}  # what makes an exchange's time of monotonic time
        self._listeners: list[Callable[[Candle], None]] = []
        self._followers: list[Callable[[Placed], None]] = []
        self._closers: list[Callable[[], None]] = []

    def on_candle(self, listener: Callable[[Candle], None]) -> None:
        """Tell `listener` of every candle from now on."""
        self._listeners.append(listener)

    def on_placed(self, follower: Callable[[Placed], None]) -> None:
        """Tell `follower` of everything that has a place in a log, in the order in which it is heard."""
        self._followers.append(follower)

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call `closer` before this process stops serving: who listens has to be told."""
        self._closers.append(closer)

    def close(self) -> None:
        """Nothing more will come."""
        for closer in self._closers:
            closer()

    def put(self, message: Message) -> None:
        """Take in a message that came just now."""
        if isinstance(message, Candle):
            for listener in self._listeners:
                listener(message)
        elif isinstance(message, Rate | State | Choice):
            self._sent.setdefault(log_of(message), {})[_key(message)] = message
            self._keep(message, self._senders.offset)
        if isinstance(message, Placed) and message.place:
            for follower in self._followers:
                follower(message)

    def restore(self, messages: Iterable[Rate | State | Choice]) -> None:
        """Begin with what was kept of earlier; what is known already is newer."""
        for message in messages:
            sent = self._sent.setdefault(log_of(message), {})
            if _key(message) not in sent:
                sent[_key(message)] = message
                self._keep(message, self._senders.offset_of_value)

    def sent(self, log: str, key: str = "") -> list[Rate | State | Choice]:
        """The newest messages of a log as they came, or the one of a key."""
        known = self._sent.get(log, {})
        return [message for name, message in known.items() if not key or name == key]

    def wall_offset(self) -> int:
        """What makes wall times of monotonic ones. It holds while our clock is not the pricer's, as after a step."""
        return self._clock.now() - self._clock.monotonic() if self._offset is None else self._offset

    def exchange_now(self, exchange: str) -> int:
        """The exchange's time, as its collector knows it; ours while that is unknown."""
        offset = self._clocks.get(exchange)
        return self._clock.now() if offset is None else self._clock.monotonic() + offset

    def clock_fault(self, sender: str) -> str:
        """What is wrong with the clock of an exchange's collector, or of the `PRICER`; empty when nothing is known."""
        return self._senders.fault(sender, self._clock.monotonic())

    def _known(self, message: Rate | State | Choice) -> Rate | State | Choice | None:
        match message:
            case Rate():
                return self.rates.get(str(message.direction))
            case State():
                return self.states.get(message.exchange)
            case Choice():
                return self.choice

    def _keep(self, message: Rate | State | Choice, offset: Callable[[str, int, int, int], int | None]) -> None:
        """Of what comes from the future nobody knows the age: what is known already goes on aging, as it does when what
        comes seems older than that.
        """
        sender = message.exchange if isinstance(message, State) else PRICER
        monotonic = self._clock.monotonic()  # before the other: should we be stopped in between, all seems older
        by = offset(sender, message.time, self._clock.now(), monotonic)
        known = self._known(message)
        if by is None or (known and message.time + by < known.time - JITTER):
            return
        if sender == PRICER:
            self._offset = -by
        match message:
            case Rate():
                self.rates[str(message.direction)] = shifted(message, by)
            case State():
                self.states[message.exchange] = shifted(message, by)
                if message.clock_offset is not None:
                    self._clocks[message.exchange] = message.clock_offset - by
            case Choice():
                self.choice = shifted(message, by)
        self.version += 1


def _key(message: Rate | State | Choice) -> str:
    """What tells those of one log apart."""
    return str(message.direction) if isinstance(message, Rate) else ""
