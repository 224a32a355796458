"""Logs as this replica has heard them, and how far each client was told of them."""

from typing import Protocol

from services.api.streams.channels import Channel
from services.api.streams.encoding import News
from services.core.indicators import STANDARD
from services.core.journal import Entry
from services.core.model import Candle, Place, Reading

LASTING = frozenset(map(str, STANDARD))
FULL = 64 * 1024  # bytes that wait for a client before it is given nothing but the newest


class Follower(Protocol):
    """Whom a log is told to."""

    live: bool  # what is heard is told at once; else it is being read on

    def tell(self, slot: "Slot", news: News) -> int:
        """Send an update. Answers how many bytes wait for the client."""

    def read_on(self) -> None:
        """Something may have been missed: have it read in the journal."""

    def begin_anew(self, slot: "Slot") -> None:
        """The log has begun anew."""

    def fall_behind(self) -> None:
        """The client does not read what it is sent."""


class Log:
    """One log. `number`: of its newest entry; 0: none is known. `heard`: of the newest that the bus brought; the
    journal may be ahead. `asked`: the journal was, and had `last`. `due`: what it had at the last look.

    Of a log that holds many things, such as all rates, a slot may be told of one key alone: it is not even asked about
    the others.
    """

    __slots__ = (
        "__weakref__",
        "_by_key",
        "_newest",
        "asked",
        "due",
        "heard",
        "heard_at",
        "last",
        "name",
        "newest",
        "number",
        "unbroken",
    )

    def __init__(self, name: str) -> None:
        self.name, self.number, self.heard, self.due, self.asked = name, 0, 0, 0, False
        self.heard_at = 0  # ms, monotonic
        self.newest: Candle | Reading | None = None
        self.last: Entry | None = None
        self._by_key: dict[str, dict[Slot, None]] = {}  # that are told of each change, those of all keys under ""
        self._newest: dict[str, int] = {}  # number of the newest that was heard, by key that has slots
        self.unbroken = True  # nothing is missing before what was heard last

    @property
    def lasting(self) -> bool:
        """Whether it is told whoever follows it."""
        return not isinstance(self.newest, Reading) or self.newest.indicator in LASTING

    @property
    def standing(self) -> int:
        """The number up to which it is at hand how things stand."""
        return self.heard or self.number

    @property
    def slots(self) -> list["Slot"]:
        """All that are told of changes."""
        return [slot for slots in self._by_key.values() for slot in slots]

    def add(self, slot: "Slot") -> None:
        """Tell it of changes from now on."""
        self._by_key.setdefault(slot.channel.key, {})[slot] = None

    def remove(self, slot: "Slot") -> None:
        """Tell it no longer."""
        key = slot.channel.key
        slots = self._by_key.get(key, {})
        slots.pop(slot, None)
        if not slots:
            self._by_key.pop(key, None)
            self._newest.pop(key, None)

    def hear(self, entry: Entry) -> list["Slot"]:
        """The bus brought an entry; answers the slots that are to be told: all of them, if one before it is missing."""
        known = entry.previous and entry.number <= self.heard
        self.unbroken = bool(known or entry.previous == self.heard or not self.heard)
        self.pass_by(Place(entry.number, entry.previous))
        if not self.unbroken:
            self._newest.clear()  # what is missing may be of any key
        if entry.key in self._by_key:
            self._newest[entry.key] = entry.number
        if not (self.unbroken and entry.key):
            return self.slots
        return [*self._by_key.get("", ()), *self._by_key.get(entry.key, ())]

    def pass_by(self, place: Place) -> None:
        """The bus brought something that nobody follows."""
        if not place.previous:
            self.number = self.heard = place.number
        self.number, self.heard = max(self.number, place.number), max(self.heard, place.number)

    @property
    def followed(self) -> bool:
        """Whether anybody is told of changes."""
        return bool(self._by_key)

    def newest_of(self, key: str) -> int:
        """The number of the newest entry of a key; where it is not known, of the log."""
        return self._newest.get(key, self.number) if key and self.heard >= self.number else self.number


class Slot:
    """One log that a client follows on a channel. `position`: the number up to which it was told; 0: nothing."""

    __slots__ = ("channel", "follower", "log", "position", "seconds")

    def __init__(self, follower: Follower, channel: Channel, log: Log, seconds: float) -> None:
        self.follower, self.channel, self.log, self.seconds = follower, channel, log, seconds
        self.position = 0

    @property
    def late(self) -> bool:
        """Whether there is more than it was told."""
        return self.position < self.log.newest_of(self.channel.key)

    def hear(self, news: News) -> None:
        """Something new: tell it, unless something before it is missing. Runs for each client at each change."""
        follower, entry, position = self.follower, news.entry, self.position
        if not follower.live:
            return
        if position and entry.previous != position and not self._next(entry, position):
            self._out_of_turn(entry.number, entry.previous)
            return
        self.position, key = entry.number, self.channel.key
        if (not key or key == entry.key) and follower.tell(self, news) > FULL:
            follower.fall_behind()

    def _next(self, entry: Entry, position: int) -> bool:
        """Whether it follows although other keys' came between: nothing was told of those, but the log has all."""
        return self.channel.key == entry.key != "" and entry.number > position and self.log.unbroken

    def _out_of_turn(self, number: int, previous: int) -> None:
        if number > self.position:
            self.follower.read_on()
        elif not previous:  # whoever writes has lost count
            self.follower.begin_anew(self)
