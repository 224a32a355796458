"""News to this process's listeners: the newest of everything, at hand without a wait."""

from collections.abc import Callable

from services.core.model import Candle, Choice, Message, Placed, Rate, State


class Hub:
    """What this process last heard. `version` grows with each change, so that a reader knows when to look again."""

    def __init__(self) -> None:
        self.version = 0
        self.rates: dict[str, Rate] = {}
        self.states: dict[str, State] = {}
        self.choice: Choice | None = None
        self.market = b"live"  # or "simulated": what everything here comes from
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
        """Take a message in. An older one than what is known changes nothing."""
        self._keep(message)
        if isinstance(message, Placed) and message.place:
            for follower in self._followers:
                follower(message)

    def _keep(self, message: Message) -> None:
        match message:
            case Rate() if _newer(message, self.rates.get(str(message.direction))):
                self.rates[str(message.direction)] = message
                self._origin(message.simulated)
            case State() if _newer(message, self.states.get(message.exchange)):
                self.states[message.exchange] = message
                self._origin(message.simulated)
            case Choice() if _newer(message, self.choice):
                self.choice = message
            case Candle():
                for listener in self._listeners:
                    listener(message)
                return
            case _:
                return
        self.version += 1

    def _origin(self, simulated: bool) -> None:
        self.market = b"simulated" if simulated else b"live"


def _newer(message: Rate | State | Choice, known: Rate | State | Choice | None) -> bool:
    return known is None or message.time >= known.time
