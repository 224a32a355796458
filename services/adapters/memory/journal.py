"""The journal in the memory of one process."""

from collections import deque
from collections.abc import Callable, Iterable
from struct import Struct
from time import monotonic_ns

from services.core.journal import JOURNAL_BYTES, JournalEntry, contiguous_after
from services.core.journal_retention import UNFOLLOWED_ENTRIES, EntryCosts, JournalRetention

RESUME_WINDOW_MS = 600_000  # older entries of a quiet topic are dropped: clients resume within minutes
COSTS = EntryCosts(topic=1_500, entry=96)
_head = Struct(">QQQQH")  # seq, prev_seq, time, time of storing (ms, monotonic), length of the key


def _monotonic_ms() -> int:
    return monotonic_ns() // 1_000_000


class MemoryJournal:
    """The newest entries of each topic, in `most_bytes` together."""

    def __init__(self, most_bytes: int = JOURNAL_BYTES, monotonic: Callable[[], int] = _monotonic_ms) -> None:
        self._topics: dict[str, deque[bytes]] = {}
        self._monotonic = monotonic
        self._retention = JournalRetention(most_bytes, COSTS)

    async def append(self, *entries: JournalEntry) -> None:
        """Append entries. One that is not newer than the last of its topic is ignored."""
        now = self._monotonic()
        for entry in entries:
            packed_entries = self._topics.setdefault(entry.topic, deque())
            if not packed_entries or entry.seq > _seq_of(packed_entries[-1]):
                packed_entries.append(_pack(entry, now))
                _drop_oldest(packed_entries, self._retention.add(entry, now))
                while (
                    len(packed_entries) > UNFOLLOWED_ENTRIES and now - _stored_at(packed_entries[0]) > RESUME_WINDOW_MS
                ):
                    packed_entries.popleft()
        for name, count in self._retention.take_trims().items():
            _drop_oldest(self._topics.get(name, deque()), count)
            if not count:
                self._topics.pop(name, None)

    def retain(self, topic: str) -> None:
        """Retain more entries of a topic."""
        self._retention.follow(topic, self._monotonic())

    async def read_after(self, topic: str, seq: int, limit: int) -> list[JournalEntry] | None:
        """Return the first `limit` entries after `seq`; None: entries after it are missing."""
        stored: Iterable[bytes] = self._topics.get(topic, ())
        selected = [packed for packed in stored if _seq_of(packed) >= seq][: limit + bool(seq)]
        return contiguous_after([_unpack(topic, packed) for packed in selected], seq)

    async def latest(self, *topics: str) -> list[JournalEntry | None]:
        """Return the last entry of each topic."""
        return [_unpack(topic, self._topics[topic][-1]) if topic in self._topics else None for topic in topics]

    async def ping(self) -> None:
        """Check nothing: there is no server."""

    async def close(self) -> None:
        """Close nothing: there is no connection."""


def _drop_oldest(packed_entries: deque[bytes], count: int) -> None:
    while len(packed_entries) > count:
        packed_entries.popleft()


def _seq_of(packed: bytes) -> int:
    return int.from_bytes(packed[:8])


def _stored_at(packed: bytes) -> int:
    return int.from_bytes(packed[24:32])


def _pack(entry: JournalEntry, now: int) -> bytes:
    key = entry.key.encode()
    return _head.pack(entry.seq, entry.prev_seq, entry.time, now, len(key)) + key + entry.data.encode()


def _unpack(topic: str, packed: bytes) -> JournalEntry:
    number, previous, time, _, length = _head.unpack_from(packed)
    end = _head.size + length
    return JournalEntry(topic, number, previous, packed[_head.size : end].decode(), packed[end:].decode(), time)
