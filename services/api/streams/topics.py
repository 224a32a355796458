"""The state of each topic in this replica, and what an entry means for each subscription.

Pure: no I/O, no event loop, no clock. A receiver is whatever sends to one client; it is opaque here. An import contract
in pyproject.toml keeps it so.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Generic, TypeVar

from services.api.streams.channels import Channel
from services.core.indicators import STANDARD
from services.core.journal import JournalEntry
from services.core.model import Candle, IndicatorValue, Position, Sequenced

MAX_TOPICS = 10_000  # beyond it, all topics without a subscription are dropped
IDLE_TOPIC_TTL_MS = 600_000  # for topics of indicators that are computed only on request
STANDARD_INDICATORS = frozenset(map(str, STANDARD))
Receiver = TypeVar("Receiver")


class Action(Enum):
    """What to do for one subscription when the bus brings an entry."""

    DELIVER = auto()  # send the entry
    SKIP = auto()  # send nothing: the entry was sent before, or has another key
    CATCH_UP = auto()  # entries before it are missing: read them from the journal
    RESET = auto()  # the topic has begun again at a lower seq: send a new snapshot


DELIVER, SKIP = Action.DELIVER, Action.SKIP  # to look a member up in its class takes 0.3 µs, a tenth of a delivery


class Subscription(Generic[Receiver]):
    """One topic of a channel that a client has subscribed to.

    `position` is the seq up to which the client has been sent everything; 0 before its first entry. With an `interval`
    in seconds, the client gets snapshots in that interval and no single entries.
    """

    __slots__ = ("channel", "interval", "position", "receiver", "topic")

    def __init__(
        self,
        receiver: Receiver,
        channel: Channel,
        topic: "TopicState[Receiver]",
        interval: float = 0,
        position: int = 0,
    ) -> None:
        self.receiver, self.channel, self.topic = receiver, channel, topic
        self.interval, self.position = interval, position

    @property
    def is_behind(self) -> bool:
        """Whether the topic has entries that the client lacks."""
        return self.position < self.topic.head_of(self.channel.key)

    def on_entry(self, entry: JournalEntry) -> Action:
        """Advance over the entry and return what to do. Runs for each client at each entry."""
        position, key = self.position, self.channel.key
        if position and entry.prev_seq != position:
            only_other_keys_between = key and key == entry.key and self.topic.contiguous and entry.seq > position
            if not only_other_keys_between:
                return self._on_out_of_order(entry)
        self.position = entry.seq
        return DELIVER if not key or key == entry.key else SKIP

    def _on_out_of_order(self, entry: JournalEntry) -> Action:
        if entry.seq > self.position:
            return Action.CATCH_UP
        return Action.SKIP if entry.prev_seq else Action.RESET


class TopicState(Generic[Receiver]):
    """What this replica knows of one topic. Three heads, 0 while unknown:

    `bus_seq`      the newest entry that the bus has brought
    `journal_seq`  the newest entry that the journal had at the last scan; the bus may bring it a moment later
    `known_seq`    the newest entry that clients ought to have; never below `bus_seq`

    A subscription to one key of a topic, such as one rate of all, is called only for entries of that key while nothing
    is missing in between.
    """

    __slots__ = (
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
        "users",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.known_seq = self.bus_seq = self.journal_seq = 0
        self.contiguous = True  # nothing is missing before the entry that the bus brought last
        self.head_read = False  # the journal's head has been read once
        self.last_entry: JournalEntry | None = None  # the journal's head at that time
        self.latest: Candle | IndicatorValue | None = None
        self.received_at: int | None = None  # ms, monotonic; None: the bus has brought nothing
        self.users = 0  # channels in use that are fed from it
        self._subscriptions: dict[str, dict[Subscription[Receiver], None]] = {}  # by key; "": all keys
        self._seq_by_key: dict[str, int] = {}  # newest seq, of keys with subscriptions

    @property
    def snapshot_seq(self) -> int:
        """The seq that a snapshot from this replica's memory reflects."""
        return self.bus_seq or self.known_seq

    @property
    def subscriptions(self) -> list[Subscription[Receiver]]:
        """Those that get single entries."""
        return [subscription for group in self._subscriptions.values() for subscription in group]

    @property
    def has_subscriptions(self) -> bool:
        """Whether any subscription gets single entries."""
        return bool(self._subscriptions)

    def add(self, subscription: Subscription[Receiver]) -> None:
        """Have it get entries from now on."""
        self._subscriptions.setdefault(subscription.channel.key, {})[subscription] = None

    def remove(self, subscription: Subscription[Receiver]) -> None:
        """Have it get no more entries."""
        key = subscription.channel.key
        group = self._subscriptions.get(key, {})
        group.pop(subscription, None)
        if not group:
            self._subscriptions.pop(key, None)
            self._seq_by_key.pop(key, None)

    def on_entry(self, entry: JournalEntry) -> list[Subscription[Receiver]]:
        """Take an entry of the bus; return the subscriptions that it concerns: all, if one before it is missing."""
        repeated = entry.prev_seq and entry.seq <= self.bus_seq
        self.contiguous = bool(repeated or entry.prev_seq == self.bus_seq or not self.bus_seq)
        self.on_position(Position(entry.seq, entry.prev_seq))
        if not self.contiguous:
            self._seq_by_key.clear()  # what is missing may be of any key
        if entry.key in self._subscriptions:
            self._seq_by_key[entry.key] = entry.seq
        if not (self.contiguous and entry.key):
            return self.subscriptions
        return [*self._subscriptions.get("", ()), *self._subscriptions.get(entry.key, ())]

    def on_message(self, message: Sequenced, now: int) -> None:
        """Take a message of the bus as the latest, unless it is of an older candle; `now` is monotonic, in ms."""
        self.received_at = now
        if isinstance(message, Candle | IndicatorValue) and (
            self.latest is None or open_time(message) >= open_time(self.latest)
        ):
            self.latest = message

    def on_position(self, position: Position) -> None:
        """Take the position of an entry that concerns no subscription."""
        if not position.prev_seq:  # the writer has lost its count and begins again
            self.known_seq = self.bus_seq = position.seq
        self.known_seq, self.bus_seq = max(self.known_seq, position.seq), max(self.bus_seq, position.seq)

    def on_journal_head(self, entry: JournalEntry | None) -> None:
        """Take the journal's newest entry when a client needs it; None: the journal has none."""
        self.head_read, self.last_entry = True, entry
        self.known_seq = max(self.known_seq, entry.seq if entry else 0)

    def on_journal_scan(self, seq: int) -> bool:
        """Take the journal's head of a regular scan; return whether the bus lacks what the scan before it had found.

        The bus may be a few ms behind the journal. What it has not brought by the next scan, it has lost.
        """
        lost = self.known_seq < self.journal_seq
        self.known_seq, self.journal_seq = max(self.known_seq, self.journal_seq), seq
        return lost

    def head_of(self, key: str) -> int:
        """Return the newest seq of a key; where that is not known, of the topic."""
        return self._seq_by_key.get(key, self.known_seq) if key and self.bus_seq >= self.known_seq else self.known_seq

    def is_idle(self, now: int) -> bool:
        """Return whether it belongs to an indicator that is computed on request only, and no request is recent."""
        if self.users or not isinstance(self.latest, IndicatorValue) or self.latest.indicator in STANDARD_INDICATORS:
            return False
        return self.received_at is None or self.received_at < now - IDLE_TOPIC_TTL_MS


class Topics(Generic[Receiver]):
    """All topics that are in use or that the bus has brought, and the channels in use.

    A channel is in use from `acquire` to the same number of `release` calls. All its clients share one object. A topic
    stays while a channel in use is fed from it, and afterwards if the bus has brought it.
    """

    def __init__(self) -> None:
        self._topics: dict[str, TopicState[Receiver]] = {}
        self._channels: dict[str, Channel] = {}
        self._users: dict[str, int] = {}  # by channel name

    @property
    def channels(self) -> Mapping[str, Channel]:
        """Channels in use, by name."""
        return self._channels

    @property
    def with_subscriptions(self) -> list[TopicState[Receiver]]:
        """Topics whose entries are sent to clients."""
        return [topic for topic in self._topics.values() if topic.has_subscriptions]

    def get(self, name: str) -> TopicState[Receiver]:
        """Return the topic of a name, a new one if need be."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = TopicState(name)
        return topic

    def acquire(self, channel: Channel) -> Channel:
        """Count one more user of a channel; return the object that all users share."""
        shared = self._channels.setdefault(channel.name, channel)
        users = self._users[channel.name] = self._users.get(channel.name, 0) + 1
        if users == 1:
            for name in shared.topics:
                self.get(name).users += 1
        return shared

    def release(self, channel: Channel) -> None:
        """Count one user less."""
        self._users[channel.name] -= 1
        if self._users[channel.name]:
            return
        del self._users[channel.name], self._channels[channel.name]
        for topic in map(self.get, channel.topics):
            topic.users -= 1
            if not topic.users and topic.received_at is None:
                del self._topics[topic.name]

    def drop_idle(self, now: int) -> None:
        """Drop topics that have no use any more; `now` is monotonic, in ms."""
        full = len(self._topics) > MAX_TOPICS
        self._topics = {
            name: topic for name, topic in self._topics.items() if topic.users or not (full or topic.is_idle(now))
        }


def open_time(message: Candle | IndicatorValue) -> int:
    """Return the open time of a candle, or of the candle that a value belongs to."""
    return message.bar.open_time if isinstance(message, Candle) else message.open_time
