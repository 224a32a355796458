"""How many entries of each topic the journal retains, so that all topics together stay below a number of bytes.

A kind of topic (the first word of its name) has one writer and a fixed share of the bytes, so each process bounds its
own topics without a request to another. Within a kind all topics have the same room. It shrinks when their number has
doubled.
"""

from typing import NamedTuple

from services.core.journal import JournalEntry, max_entries

BYTE_SHARES = {"rates": 1 / 8, "candle": 3 / 8, "reading": 3 / 8}  # of the bytes, by kind
OTHER_KINDS_SHARE = 1 / 8  # all other kinds together
ON_DEMAND_KIND = "reading"  # thousands of its topics have no client; those that have one are named by `follow`
UNFOLLOWED_ENTRIES = 2  # of a topic without a client
MIN_TOPICS = 16  # that the room of a kind is divided by at least
MAX_TOPIC_OVERHEAD = 3 / 4  # of a share, for topics without entries; beyond it the topics unwritten longest expire
TOPIC_TTL_SECONDS = 60 * 60  # after a topic's last entry
FOLLOWER_TTL_SECONDS = 10 * 60  # after the last `follow`


class EntryCosts(NamedTuple):
    """What a topic and an entry cost in bytes beside the entry's text."""

    topic: int
    entry: int


class _Topic:
    """A topic: when its newest entry came (ms, monotonic), about the bytes of its largest, its maximum of entries."""

    __slots__ = ("entry_bytes", "max_entries", "written_at")

    def __init__(self) -> None:
        self.written_at, self.entry_bytes, self.max_entries = 0, 1.0, UNFOLLOWED_ENTRIES


class _TopicKind:
    """The topics of one kind, in the order in which they were last written to."""

    def __init__(self, share: float, costs: EntryCosts, on_demand: bool) -> None:
        self.share, self.on_demand, self._costs = int(share), on_demand, costs
        self.topics: dict[str, _Topic] = {}
        self.followed: dict[str, int] = {}  # until when, in ms
        self.topic_bytes = self.share

    def resize(self) -> bool:
        """Divide the room again; return whether each topic has less than before."""
        free = max(self.share - _next_power_of_two(len(self.topics)) * self._costs.topic, self.share // 8)
        before, count = self.topic_bytes, len(self.followed if self.on_demand else self.topics)
        self.topic_bytes = free // _next_power_of_two(max(count, MIN_TOPICS))
        return self.topic_bytes < before

    def max_entries_of(self, name: str) -> int:
        """Return how many entries of a topic are retained."""
        if self.on_demand and name not in self.followed:
            return UNFOLLOWED_ENTRIES
        return max(UNFOLLOWED_ENTRIES, min(max_entries(name), int(self.topic_bytes / self.topics[name].entry_bytes)))

    def expire_followed(self, now: int) -> list[str]:
        """Remove and return the topics whose followers have expired."""
        expired = list[str]()
        for name, until in self.followed.items():
            if until >= now:
                break
            expired.append(name)
        for name in expired:
            del self.followed[name]
        return expired

    def entries_once_unfollowed(self, name: str, now: int) -> int:
        """Return the entries to retain of a topic whose followers have expired; none if it was only for them."""
        topic = self.topics.get(name)
        if topic and now - topic.written_at < FOLLOWER_TTL_SECONDS * 1000:
            return UNFOLLOWED_ENTRIES
        self.topics.pop(name, None)
        return 0

    def expire_topics(self, now: int) -> list[str]:
        """Remove and return topics that are not written to any more, and those without room."""
        expired = list[str]()
        for name, topic in self.topics.items():
            overhead = (len(self.topics) - len(expired)) * self._costs.topic
            if overhead <= self.share * MAX_TOPIC_OVERHEAD and now - topic.written_at <= TOPIC_TTL_SECONDS * 1000:
                break
            expired.append(name)
        for name in expired:
            del self.topics[name]
        return expired


class JournalRetention:
    """The bytes of all topics that a process writes, at most `total`. Times are monotonic, in ms."""

    def __init__(self, total: int, costs: EntryCosts) -> None:
        self._costs = costs
        self._kinds = {
            kind: _TopicKind(share * total, costs, kind == ON_DEMAND_KIND) for kind, share in BYTE_SHARES.items()
        }
        self._other_kinds = _TopicKind(OTHER_KINDS_SHARE * total, costs, on_demand=False)
        self._trims: dict[str, int] = {}

    def add(self, entry: JournalEntry, now: int) -> int:
        """Count an entry; return how many of its topic are retained, this one included."""
        kind, name = self._kind(entry.topic), entry.topic
        topic = kind.topics.pop(name, None) or _Topic()
        kind.topics[name] = topic  # behind all others
        topic.written_at = now
        size = self._costs.entry + len(entry.key) + len(entry.data)
        topic.entry_bytes = max(size, topic.entry_bytes * (1 - 1 / topic.max_entries))  # a larger one is trimmed
        for expired in kind.expire_followed(now):
            self._trims[expired] = kind.entries_once_unfollowed(expired, now)
        self._trims |= dict.fromkeys(kind.expire_topics(now), 0)
        if kind.resize():
            self._trims |= {other: kind.max_entries_of(other) for other in kind.topics}
        self._trims.pop(name, None)
        topic.max_entries = kind.max_entries_of(name)
        return topic.max_entries

    def follow(self, topic: str, now: int) -> None:
        """Retain more of a topic for some time, because a client follows it."""
        followed = self._kind(topic).followed
        followed.pop(topic, None)  # behind all others
        followed[topic] = now + FOLLOWER_TTL_SECONDS * 1000

    def take_trims(self) -> dict[str, int]:
        """Return the topics to trim since the last call, each with its number of newest entries; 0: delete it."""
        trims, self._trims = self._trims, {}
        return trims

    def _kind(self, topic: str) -> _TopicKind:
        return self._kinds.get(topic.partition(":")[0], self._other_kinds)


def _next_power_of_two(count: int) -> int:
    """A number of bytes that is divided by it changes seldom."""
    return 1 << max(count - 1, 0).bit_length()
