"""How many entries of each log the journal keeps, so that all logs together stay below a number of bytes.

A kind of log (the first word of its name) has one writer, and a fixed share of the whole: so each process bounds what
it writes without asking another. Within a kind each log has the same room, less with each time that they have doubled
in number.
"""

from typing import NamedTuple

from services.core.journal import JournalEntry, max_entries

BYTE_SHARES = {"rates": 1 / 8, "candle": 3 / 8, "reading": 3 / 8}  # of the whole, by kind
OTHER_KINDS_SHARE = 1 / 8  # all other kinds together
ON_DEMAND_KIND = (
    "reading"  # of this kind a log is followed only if `follow` says so: thousands are written that nobody follows
)
UNFOLLOWED_ENTRIES = 2  # newest entries of a log that nobody follows
MIN_TOPICS = 16  # logs of a kind that its room is divided by at least
MAX_TOPIC_OVERHEAD = (
    3 / 4
)  # of a share, that empty logs may take: beyond that those go that were written to the longest ago
TOPIC_TTL_SECONDS = 60 * 60  # seconds after its last entry in which a log is kept
FOLLOWER_TTL_SECONDS = 10 * 60  # seconds after its last follower in which a log is one that is followed


class EntryCosts(NamedTuple):
    """What a log and an entry cost in bytes beside the entry's text."""

    topic: int
    entry: int


class _Topic:
    """One log: when its newest entry came (ms, monotonic), about the size of its largest, how many entries it keeps."""

    __slots__ = ("entry_bytes", "max_entries", "written_at")

    def __init__(self) -> None:
        self.written_at, self.entry_bytes, self.max_entries = 0, 1.0, UNFOLLOWED_ENTRIES


class _TopicKind:
    """The logs of one kind, in the order in which they were last written to."""

    def __init__(self, share: float, costs: EntryCosts, on_demand: bool) -> None:
        self.share, self.on_demand, self._costs = int(share), on_demand, costs
        self.topics: dict[str, _Topic] = {}
        self.followed: dict[str, int] = {}  # until when, in ms
        self.topic_bytes = self.share

    def resize(self) -> bool:
        """Divide the room anew; answers whether each log has less than before."""
        free = max(self.share - _next_power_of_two(len(self.topics)) * self._costs.topic, self.share // 8)
        before, count = self.topic_bytes, len(self.followed if self.on_demand else self.topics)
        self.topic_bytes = free // _next_power_of_two(max(count, MIN_TOPICS))
        return self.topic_bytes < before

    def max_entries_of(self, name: str) -> int:
        """How many entries of a log are kept."""
        if self.on_demand and name not in self.followed:
            return UNFOLLOWED_ENTRIES
        return max(UNFOLLOWED_ENTRIES, min(max_entries(name), int(self.topic_bytes / self.topics[name].entry_bytes)))

    def expire_followed(self, now: int) -> list[str]:
        """Take out of the followed ones those that nobody has followed for long."""
        ended = list[str]()
        for name, until in self.followed.items():
            if until >= now:
                break
            ended.append(name)
        for name in ended:
            del self.followed[name]
        return ended

    def entries_once_unfollowed(self, name: str, now: int) -> int:
        """How much is kept of a log that nobody follows any more: nothing, if it was written for followers alone."""
        log = self.topics.get(name)
        if log and now - log.written_at < FOLLOWER_TTL_SECONDS * 1000:
            return UNFOLLOWED_ENTRIES
        self.topics.pop(name, None)
        return 0

    def expire_topics(self, now: int) -> list[str]:
        """Take out logs that are not written to any more, and those for which there is no room."""
        gone = list[str]()
        for name, log in self.topics.items():
            crowded = (len(self.topics) - len(gone)) * self._costs.topic > self.share * MAX_TOPIC_OVERHEAD
            if not crowded and now - log.written_at <= TOPIC_TTL_SECONDS * 1000:
                break
            gone.append(name)
        for name in gone:
            del self.topics[name]
        return gone


class JournalRetention:
    """Counts what is written to logs, `total` bytes of which may be kept."""

    def __init__(self, total: int, costs: EntryCosts) -> None:
        self._costs = costs
        self._kinds = {
            word: _TopicKind(share * total, costs, word == ON_DEMAND_KIND) for word, share in BYTE_SHARES.items()
        }
        self._other_kinds = _TopicKind(OTHER_KINDS_SHARE * total, costs, on_demand=False)
        self._trims: dict[str, int] = {}

    def add(self, entry: JournalEntry, now: int) -> int:
        """Count an entry; answers how many of its log are kept, this one included. `now` is monotonic."""
        kind, name = self._kind(entry.topic), entry.topic
        log = kind.topics.pop(name, None) or _Topic()
        kind.topics[name] = log  # behind all others
        log.written_at = now
        size = self._costs.entry + len(entry.key) + len(entry.data)
        log.entry_bytes = max(size, log.entry_bytes * (1 - 1 / log.max_entries))  # what was larger has gone by then
        for ended in kind.expire_followed(now):
            self._trims[ended] = kind.entries_once_unfollowed(ended, now)
        self._trims |= dict.fromkeys(kind.expire_topics(now), 0)
        if kind.resize():
            self._trims |= {each: kind.max_entries_of(each) for each in kind.topics}
        self._trims.pop(name, None)
        log.max_entries = kind.max_entries_of(name)
        return log.max_entries

    def follow(self, topic: str, now: int) -> None:
        """Somebody follows this log: for some time it keeps more. `now` is monotonic."""
        followed = self._kind(topic).followed
        followed.pop(topic, None)  # behind all others
        followed[topic] = now + FOLLOWER_TTL_SECONDS * 1000

    def take_trims(self) -> dict[str, int]:
        """Logs that are to be cut, since the last time: how many of the newest entries each keeps; 0: it goes."""
        trims, self._trims = self._trims, {}
        return trims

    def _kind(self, topic: str) -> _TopicKind:
        return self._kinds.get(topic.partition(":")[0], self._other_kinds)


def _next_power_of_two(count: int) -> int:
    """The next power of two: what is divided by it changes seldom."""
    return 1 << max(count - 1, 0).bit_length()
