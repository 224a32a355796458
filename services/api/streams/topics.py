"""Logs as this replica has heard them, and how far each client was told of them."""

from typing import Protocol

from services.api.streams.channels import Channel
from services.api.streams.encoding import EncodedUpdate
from services.core.indicators import STANDARD
from services.core.journal import JournalEntry
from services.core.model import Candle, IndicatorValue, Position

STANDARD_INDICATORS = frozenset(map(str, STANDARD))
MAX_BUFFERED_BYTES = 64 * 1024  # bytes that wait for a client before it is given nothing but the newest


class Subscriber(Protocol):
    """Whom a log is told to."""

    live: bool  # what is heard is told at once; else it is being read on

    def send_update(self, slot: "Subscription", news: EncodedUpdate) -> int:
        """Send an update. Answers how many bytes wait for the client."""

    def catch_up(self) -> None:
        """Something may have been missed: have it read in the journal."""

    def reset(self, slot: "Subscription") -> None:
        """The log has begun anew."""

    def pause(self) -> None:
        """The client does not read what it is sent."""


class TopicState:
    """One log. `number`: of its newest entry; 0: none is known. `heard`: of the newest that the bus brought; the
    journal may be ahead. `asked`: the journal was, and had `last`. `due`: what it had at the last look.

    Of a log that holds many things, such as all rates, a slot may be told of one key alone: it is not even asked about
    the others.
    """

    __slots__ = (
        "__weakref__",
        "_seq_by_key",
        "_subscriptions",
        "bus_seq",
        "contiguous",
        "head_read",
        "journal_seq",
        "known_seq",
        "last_entry",
        "latest",
        "name",
        "received_at",
    )

    def __init__(self, name: str) -> None:
        self.name, self.known_seq, self.bus_seq, self.journal_seq, self.head_read = name, 0, 0, 0, False
        self.received_at = 0  # ms, monotonic
        self.latest: Candle | IndicatorValue | None = None
        self.last_entry: JournalEntry | None = None
        self._subscriptions: dict[
            str, dict[Subscription, None]
        ] = {}  # that are told of each change, those of all keys under ""
        self._seq_by_key: dict[str, int] = {}  # number of the newest that was heard, by key that has slots
        self.contiguous = True  # nothing is missing before what was heard last

    @property
    def permanent(self) -> bool:
        """Whether it is told whoever follows it."""
        return not isinstance(self.latest, IndicatorValue) or self.latest.indicator in STANDARD_INDICATORS

    @property
    def snapshot_seq(self) -> int:
        """The number up to which it is at hand how things stand."""
        return self.bus_seq or self.known_seq

    @property
    def subscriptions(self) -> list["Subscription"]:
        """All that are told of changes."""
        return [slot for slots in self._subscriptions.values() for slot in slots]

    def add(self, subscription: "Subscription") -> None:
        """Tell it of changes from now on."""
        self._subscriptions.setdefault(subscription.channel.key, {})[subscription] = None

    def remove(self, subscription: "Subscription") -> None:
        """Tell it no longer."""
        key = subscription.channel.key
        slots = self._subscriptions.get(key, {})
        slots.pop(subscription, None)
        if not slots:
            self._subscriptions.pop(key, None)
            self._seq_by_key.pop(key, None)

    def on_entry(self, entry: JournalEntry) -> list["Subscription"]:
        """The bus brought an entry; answers the slots that are to be told: all of them, if one before it is missing."""
        known = entry.prev_seq and entry.seq <= self.bus_seq
        self.contiguous = bool(known or entry.prev_seq == self.bus_seq or not self.bus_seq)
        self.on_position(Position(entry.seq, entry.prev_seq))
        if not self.contiguous:
            self._seq_by_key.clear()  # what is missing may be of any key
        if entry.key in self._subscriptions:
            self._seq_by_key[entry.key] = entry.seq
        if not (self.contiguous and entry.key):
            return self.subscriptions
        return [*self._subscriptions.get("", ()), *self._subscriptions.get(entry.key, ())]

    def on_position(self, place: Position) -> None:
        """The bus brought something that nobody follows."""
        if not place.prev_seq:
            self.known_seq = self.bus_seq = place.seq
        self.known_seq, self.bus_seq = max(self.known_seq, place.seq), max(self.bus_seq, place.seq)

    @property
    def has_subscriptions(self) -> bool:
        """Whether anybody is told of changes."""
        return bool(self._subscriptions)

    def head_of(self, key: str) -> int:
        """The number of the newest entry of a key; where it is not known, of the log."""
        return self._seq_by_key.get(key, self.known_seq) if key and self.bus_seq >= self.known_seq else self.known_seq


class Subscription:
    """One log that a client follows on a channel. `position`: the number up to which it was told; 0: nothing."""

    __slots__ = ("channel", "interval", "position", "subscriber", "topic")

    def __init__(self, subscriber: Subscriber, channel: Channel, topic: TopicState, interval: float) -> None:
        self.subscriber, self.channel, self.topic, self.interval = subscriber, channel, topic, interval
        self.position = 0

    @property
    def is_behind(self) -> bool:
        """Whether there is more than it was told."""
        return self.position < self.topic.head_of(self.channel.key)

    def on_update(self, news: EncodedUpdate) -> None:
        """Something new: tell it, unless something before it is missing. Runs for each client at each change."""
        follower, entry, position = self.subscriber, news.entry, self.position
        if not follower.live:
            return
        if position and entry.prev_seq != position and not self._follows_other_keys(entry, position):
            self._on_out_of_order(entry.seq, entry.prev_seq)
            return
        self.position, key = entry.seq, self.channel.key
        if (not key or key == entry.key) and follower.send_update(self, news) > MAX_BUFFERED_BYTES:
            follower.pause()

    def _follows_other_keys(self, entry: JournalEntry, position: int) -> bool:
        """Whether it follows although other keys' came between: nothing was told of those, but the log has all."""
        return self.channel.key == entry.key != "" and entry.seq > position and self.topic.contiguous

    def _on_out_of_order(self, number: int, previous: int) -> None:
        if number > self.position:
            self.subscriber.catch_up()
        elif not previous:  # whoever writes has lost count
            self.subscriber.reset(self)
