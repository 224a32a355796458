"""The journal on Redis: a stream for each topic, as `journal:{rates}`, whose ids are the entries' seqs."""

from collections.abc import Mapping
from time import monotonic_ns
from typing import Any

from redis.exceptions import RedisError, ResponseError

from services.adapters.redis.connection import create_client, key_prefix, translate_errors
from services.core.journal import JOURNAL_BYTES, JournalEntry, contiguous_after
from services.core.journal_retention import TOPIC_TTL_SECONDS, UNFOLLOWED_ENTRIES, EntryCosts, JournalRetention
from services.core.markets import LIVE, Market

COSTS = EntryCosts(topic=5_000, entry=80)  # measured: an empty stream allocates a block of 4 kB


class RedisJournal:
    """The newest entries of each topic, for all processes. Every method raises Unavailable within a few seconds."""

    def __init__(self, url: str, most_bytes: int = JOURNAL_BYTES, market: Market = LIVE) -> None:
        self._redis, self._prefix = create_client(url), f"{key_prefix(market)}journal:"
        self._retention = JournalRetention(most_bytes, COSTS)
        self._counted_kinds: set[str] = set()  # kinds of topics whose existing entries are counted
        self._pending_trims: dict[str, int] = {}

    async def append(self, *entries: JournalEntry) -> None:
        """Append entries, in one round trip. Redis rejects an entry that is not newer than the last of its topic."""
        with translate_errors():
            for kind in {entry.topic.partition(":")[0] for entry in entries} - self._counted_kinds:
                await self._count_existing(kind)
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    fields = {"previous": entry.prev_seq, "key": entry.key, "data": entry.data, "time": entry.time}
                    stream, max_entries = self._stream_key(entry.topic), self._retention.add(entry, _monotonic_ms())
                    pipe.xadd(stream, fields, _entry_id(entry.seq), maxlen=max_entries, approximate=False)  # type: ignore[arg-type]
                for topic in {entry.topic for entry in entries}:
                    pipe.expire(self._stream_key(topic), TOPIC_TTL_SECONDS)
                self._pending_trims |= self._retention.take_trims()
                for topic, max_entries in self._pending_trims.items():
                    stream = self._stream_key(topic)
                    pipe.xtrim(stream, maxlen=max_entries, approximate=False) if max_entries else pipe.delete(stream)
                results = await pipe.execute(raise_on_error=False)
            self._pending_trims = {}
            for result in results:
                if isinstance(result, RedisError) and not _is_out_of_order(result):
                    raise result

    async def _count_existing(self, kind: str) -> None:
        """Count the entries of the previous writer towards the limit."""
        keys = [key async for key in self._redis.scan_iter(f"{self._prefix}{{{kind}*", count=1000)]
        topics = [key.removeprefix(f"{self._prefix}{{").removesuffix("}") for key in keys]
        newest = sorted((entry for entry in await self.latest(*topics) if entry), key=lambda entry: entry.seq)
        async with self._redis.pipeline(transaction=False) as pipe:
            for entry in newest:
                pipe.xlen(self._stream_key(entry.topic))
            lengths = await pipe.execute()
        for entry, length in zip(newest, lengths, strict=True):
            if length > UNFOLLOWED_ENTRIES:
                self._retention.follow(entry.topic, _monotonic_ms())
            self._pending_trims[entry.topic] = self._retention.add(entry, _monotonic_ms())
        self._pending_trims |= self._retention.take_trims()
        self._counted_kinds.add(kind)

    def retain(self, topic: str) -> None:
        """Retain more entries of a topic."""
        self._retention.follow(topic, _monotonic_ms())

    async def read_after(self, topic: str, seq: int, limit: int) -> list[JournalEntry] | None:
        """Return the first `limit` entries after `seq`; None: entries after it are missing."""
        with translate_errors():
            rows: Any = await self._redis.xrange(self._stream_key(topic), _entry_id(seq), "+", count=limit + bool(seq))
        return contiguous_after([_to_entry(topic, *row) for row in rows], seq)

    async def latest(self, *topics: str) -> list[JournalEntry | None]:
        """Return the last entry of each topic, in one round trip."""
        with translate_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                for topic in topics:
                    pipe.xrevrange(self._stream_key(topic), count=1)
                results = await pipe.execute()
        return [_to_entry(topic, *rows[0]) if rows else None for topic, rows in zip(topics, results, strict=True)]

    async def ping(self) -> None:
        """Check that Redis responds. Raises Unavailable."""
        with translate_errors():
            await self._redis.ping()

    async def close(self) -> None:
        """Close the pool's connections."""
        await self._redis.aclose()

    def _stream_key(self, topic: str) -> str:
        return f"{self._prefix}{{{topic}}}"


def _monotonic_ms() -> int:
    return monotonic_ns() // 1_000_000


def _entry_id(number: int) -> str:
    """Return a seq as Redis's id, which is milliseconds and a number within each."""
    return f"{number // 1000}-{number % 1000}"


def _to_entry(topic: str, identifier: str, fields: Mapping[str, str]) -> JournalEntry:
    milliseconds, _, rest = identifier.partition("-")
    seq = int(milliseconds) * 1000 + int(rest)
    time = fields.get("time", milliseconds)  # entries of older versions have no time
    return JournalEntry(topic, seq, int(fields["previous"]), fields["key"], fields["data"], int(time))


def _is_out_of_order(result: RedisError) -> bool:
    return isinstance(result, ResponseError) and "equal or smaller" in str(result)
