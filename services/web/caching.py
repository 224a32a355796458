"""Answers kept ready as bytes, each with its ETag, for whoever asks the same again."""

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

from services.web.app_spec import Answer, Headers

PACKED_FROM = 1400  # bytes; what fits into one packet gains nothing
LEVEL = 5
SHELF_BYTES = 8_000_000  # of answers of one kind
ANSWER_BYTES = 2_000  # that an answer takes beside its body
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept:
    """One whole answer in all its forms: plain, packed, and "you have it already"."""

    def __init__(self, body: bytes, headers: Headers, packs: bool = False) -> None:
        digest = hashlib.blake2b(body, digest_size=12).hexdigest().encode()
        self._tags = (b'"%s"' % digest, b'"%s-gzip"' % digest)
        self._headers, self._packs = headers, packs and len(body) >= PACKED_FROM
        self.full = self._answer(body, self._tags[0])
        self._unchanged = {tag: Answer(304, [*headers, (b"etag", tag)], b"") for tag in self._tags}
        self._packed: Answer | None = None

    @property
    def size(self) -> int:
        """About how many bytes it takes, packed once it is asked for."""
        return ANSWER_BYTES + len(self.full.body) * 3 // 2

    def answer(self, asked: Mapping[bytes, bytes]) -> Answer:
        """The form that fits a request's headers."""
        packed = self._packs and _takes_gzip(asked.get(b"accept-encoding", b""))
        if (tags := asked.get(b"if-none-match")) is not None and _matches(tags, self._tags):
            return self._unchanged[self._tags[packed]]
        return self._pack() if packed else self.full

    def _pack(self) -> Answer:
        if self._packed is None:
            body = gzip.compress(self.full.body, LEVEL, mtime=0)
            self._packed = self._answer(body, self._tags[1], (b"content-encoding", b"gzip"))
        return self._packed

    def _answer(self, body: bytes, tag: bytes, *more: tuple[bytes, bytes]) -> Answer:
        return Answer(200, [*self._headers, (b"etag", tag), (b"content-length", b"%d" % len(body)), *more], body)


class Shelf(Generic[K, V]):
    """A bounded number of things by key, and of bytes where their sizes are given; new ones take the place of those
    that were put there first.
    """

    def __init__(self, most: int, most_bytes: int = SHELF_BYTES) -> None:
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        self._things: dict[K, V] = {}
        self._sizes: dict[K, int] = {}

    def get(self, key: K) -> V | None:
        """What is kept under a key."""
        return self._things.get(key)

    def put(self, key: K, thing: V, size: int = 0) -> V:
        """Keep it; answers it."""
        self.drop(key)
        while self._things and (len(self._things) >= self._most or self._bytes + size > self._most_bytes):
            self.drop(next(iter(self._things)))
        self._things[key], self._sizes[key] = thing, size
        self._bytes += size
        return thing

    def drop(self, *keys: K) -> None:
        """Keep these no longer."""
        for key in keys:
            self._things.pop(key, None)
            self._bytes -= self._sizes.pop(key, 0)

    def items(self) -> list[tuple[K, V]]:
        """All that is kept."""
        return list(self._things.items())


class Once(Generic[K, V]):
    """Who asks for what is being made already waits for that."""

    def __init__(self) -> None:
        self._making: dict[K, asyncio.Task[V]] = {}

    async def make(self, key: K, make: Callable[[K], Coroutine[Any, Any, V]]) -> V:
        """What `make(key)` answers or raises."""
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = asyncio.create_task(make(key))
            task.add_done_callback(lambda _: self._making.pop(key))
        return await asyncio.shield(task)


class Brief:
    """A front whose answers are kept for `milliseconds`, as many as `most`; `now` is monotonic."""

    def __init__(
        self, make: Callable[[bytes], Coroutine[Any, Any, Kept]], now: Callable[[], int], milliseconds: int, most: int
    ) -> None:
        self._make, self._now, self._milliseconds = make, now, milliseconds
        self._shelf: Shelf[bytes, tuple[int, Kept]] = Shelf(most)
        self._once: Once[bytes, Kept] = Once()

    def __call__(self, query: bytes, headers: Mapping[bytes, bytes]) -> Answer | None:
        """The answer to a query string if it is kept; 304 when the client has it already."""
        made, kept = self._shelf.get(query) or (0, None)
        return kept.answer(headers) if kept and self._now() - made < self._milliseconds else None

    async def wait(self, query: bytes, headers: Mapping[bytes, bytes]) -> Answer:
        """The answer, made now. Raises what `make` raises."""
        kept = await self._once.make(query, self._make)
        self._shelf.put(query, (self._now(), kept), kept.size + len(query))
        return kept.answer(headers)


def _takes_gzip(accepted: bytes) -> bool:
    """Whether Accept-Encoding names gzip, and not with the weight 0."""
    weights = dict(word.replace(b" ", b"").partition(b";")[::2] for word in accepted.split(b","))
    return b"gzip" in weights and (not weights[b"gzip"] or weights[b"gzip"].strip(b"q=0.") != b"")


def _matches(if_none_match: bytes, ours: tuple[bytes, ...]) -> bool:
    """Whether a list of tags holds one of ours, in its weak form too: a compressing proxy makes it weak."""
    if if_none_match in ours or if_none_match == b"*":
        return True
    return any(tag.strip().removeprefix(b"W/") in ours for tag in if_none_match.split(b","))
