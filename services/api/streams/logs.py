"""Logs as this replica has heard them, and how far each client was told of them."""

from typing import Protocol

from services.api.streams.channels import Channel
from services.api.streams.frames import News
from services.core.journal import Entry
from services.core.model import Candle, Reading

FULL = 64 * 1024  # bytes that wait for a client before it is given nothing but the newest


class Wire(Protocol):
    """Where a client's bytes go: an asyncio transport."""

    def write(self, data: bytes) -> None:
        """Send it, or keep it until it can be sent."""

    def get_write_buffer_size(self) -> int:
        """How much is kept."""

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""

    def close(self) -> None:
        """Close when all is sent."""

    def abort(self) -> None:
        """Close now."""


class Follower(Protocol):
    """Whom a log is told to."""

    live: bool  # what is heard is told at once; else it is being read on
    wire: Wire

    def tell(self, slot: "Slot", news: News) -> None:
        """Send an update."""

    def read_on(self) -> None:
        """Something may have been missed: have it read in the journal."""

    def begin_anew(self, slot: "Slot") -> None:
        """The log has begun anew."""

    def fall_behind(self) -> None:
        """The client does not read what it is sent."""


class Log:
    """One log. `number`: of its newest entry; 0: none is known. `heard`: of the newest that the bus brought; the
    journal may be ahead. `asked`: the journal was, and had `last`. `due`: what it had at the last look.
    """

    __slots__ = ("__weakref__", "asked", "due", "heard", "last", "name", "newest", "number", "slots")

    def __init__(self, name: str) -> None:
        self.name, self.number, self.heard, self.due, self.asked = name, 0, 0, 0, False
        self.newest: Candle | Reading | None = None
        self.last: Entry | None = None
        self.slots: dict[Slot, None] = {}  # that are told of each change

    @property
    def standing(self) -> int:
        """The number up to which it is at hand how things stand."""
        return self.heard or self.number


class Slot:
    """One log that a client follows on a channel. `position`: the number up to which it was told; 0: nothing."""

    __slots__ = ("channel", "follower", "log", "position", "seconds")

    def __init__(self, follower: Follower, channel: Channel, log: Log, seconds: float) -> None:
        self.follower, self.channel, self.log, self.seconds = follower, channel, log, seconds
        self.position = 0

    @property
    def late(self) -> bool:
        """Whether there is more than it was told."""
        return self.position < self.log.number

    def hear(self, news: News) -> None:
        """Something new: tell it, unless something before it is missing. Runs for each client at each change."""
        follower, entry, position = self.follower, news.entry, self.position
        wire = follower.wire
        if not follower.live or wire.is_closing():
            return
        if position and entry.previous != position:
            self._out_of_turn(entry.number, entry.previous)
        elif wire.get_write_buffer_size() > FULL:
            follower.fall_behind()
        else:
            self.position = entry.number
            if not self.channel.key or self.channel.key == entry.key:
                follower.tell(self, news)

    def _out_of_turn(self, number: int, previous: int) -> None:
        if number > self.position:
            self.follower.read_on()
        elif not previous:  # whoever writes has lost count
            self.follower.begin_anew(self)
