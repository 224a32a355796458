"""The journal on Redis: a stream per log under `journal:{rates}`, whose ids are the entries' numbers."""

from collections.abc import Mapping
from time import monotonic_ns
from typing import Any

from redis.exceptions import RedisError, ResponseError

from services.adapters.redis.connection import client, prefix, reaching
from services.core.journal import JOURNAL_BYTES, Entry, continued
from services.core.journal_retention import FEW, FORGOTTEN, Costs, Retention
from services.core.markets import LIVE, Market

COSTS = Costs(log=5_000, entry=80)  # measured: a stream has a block of 4 kB at once


class RedisJournal:
    """The newest entries of each log, for all processes. Every method raises Unavailable within a few seconds."""

    def __init__(self, url: str, most_bytes: int = JOURNAL_BYTES, market: Market = LIVE) -> None:
        self._redis, self._prefix = client(url), f"{prefix(market)}journal:"
        self._retention = Retention(most_bytes, COSTS)
        self._taken_over: set[str] = set()  # kinds of logs
        self._trims: dict[str, int] = {}

    async def append(self, *entries: Entry) -> None:
        """Keep entries, in one round trip. Redis itself refuses what is not newer than the last of its log."""
        with reaching():
            for kind in {entry.log.partition(":")[0] for entry in entries} - self._taken_over:
                await self._take_over(kind)
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    fields = {"previous": entry.previous, "key": entry.key, "data": entry.data, "time": entry.time}
                    place, most = self._key(entry.log), self._retention.admit(entry, _monotonic())
                    pipe.xadd(place, fields, _id(entry.number), maxlen=most, approximate=False)  # type: ignore[arg-type]
                for log in {entry.log for entry in entries}:
                    pipe.expire(self._key(log), FORGOTTEN)
                self._trims |= self._retention.trims()
                for log, most in self._trims.items():
                    place = self._key(log)
                    pipe.xtrim(place, maxlen=most, approximate=False) if most else pipe.delete(place)
                answers = await pipe.execute(raise_on_error=False)
            self._trims = {}
            for answer in answers:
                if isinstance(answer, RedisError) and not _refused(answer):
                    raise answer

    async def _take_over(self, kind: str) -> None:
        """Count what a predecessor has written: it takes room too."""
        keys = [key async for key in self._redis.scan_iter(f"{self._prefix}{{{kind}*", count=1000)]
        logs = [key.removeprefix(f"{self._prefix}{{").removesuffix("}") for key in keys]
        newest = sorted((entry for entry in await self.newest(*logs) if entry), key=lambda entry: entry.number)
        async with self._redis.pipeline(transaction=False) as pipe:
            for entry in newest:
                pipe.xlen(self._key(entry.log))
            lengths = await pipe.execute()
        for entry, length in zip(newest, lengths, strict=True):
            if length > FEW:
                self._retention.follow(entry.log, _monotonic())
            self._trims[entry.log] = self._retention.admit(entry, _monotonic())
        self._trims |= self._retention.trims()
        self._taken_over.add(kind)

    def follow(self, log: str) -> None:
        """Somebody follows this log."""
        self._retention.follow(log, _monotonic())

    async def after(self, log: str, number: int, most: int) -> list[Entry] | None:
        """The first `most` entries after `number`; None: what came after it is not known any more."""
        with reaching():
            rows: Any = await self._redis.xrange(self._key(log), _id(number), "+", count=most + bool(number))
        return continued([_entry(log, *row) for row in rows], number)

    async def newest(self, *logs: str) -> list[Entry | None]:
        """The last entry of each log, in one round trip."""
        with reaching():
            async with self._redis.pipeline(transaction=False) as pipe:
                for log in logs:
                    pipe.xrevrange(self._key(log), count=1)
                answers = await pipe.execute()
        return [_entry(log, *rows[0]) if rows else None for log, rows in zip(logs, answers, strict=True)]

    async def ping(self) -> None:
        """Raises Unavailable."""
        with reaching():
            await self._redis.ping()

    async def close(self) -> None:
        """Close the pool's connections."""
        await self._redis.aclose()

    def _key(self, log: str) -> str:
        return f"{self._prefix}{{{log}}}"


def _monotonic() -> int:
    return monotonic_ns() // 1_000_000


def _id(number: int) -> str:
    """Redis counts in milliseconds, and on within each."""
    return f"{number // 1000}-{number % 1000}"


def _entry(log: str, identifier: str, fields: Mapping[str, str]) -> Entry:
    milliseconds, _, rest = identifier.partition("-")
    number, time = int(milliseconds) * 1000 + int(rest), fields.get("time", milliseconds)  # older ones have none
    return Entry(log, number, int(fields["previous"]), fields["key"], fields["data"], int(time))


def _refused(answer: RedisError) -> bool:
    return isinstance(answer, ResponseError) and "equal or smaller" in str(answer)
