"""Answers kept ready as bytes, each with its ETag, for whoever asks the same again."""

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

from services.web.app_spec import Headers, RawResponse

MIN_COMPRESSED_BYTES = 1400  # bytes; what fits into one packet gains nothing
GZIP_LEVEL = 5
MAX_CACHE_BYTES = 8_000_000  # of answers of one kind
RESPONSE_OVERHEAD_BYTES = 2_000  # that an answer takes beside its body
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class CachedResponse:
    """One whole answer in all its forms: plain, packed, and "you have it already"."""

    def __init__(self, body: bytes, headers: Headers, compress: bool = False) -> None:
        digest = hashlib.blake2b(body, digest_size=12).hexdigest().encode()
        self._etags = (b'"%s"' % digest, b'"%s-gzip"' % digest)
        self._headers, self._compress = headers, compress and len(body) >= MIN_COMPRESSED_BYTES
        self.plain = self._make_response(body, self._etags[0])
        self._not_modified = {tag: RawResponse(304, [*headers, (b"etag", tag)], b"") for tag in self._etags}
        self._gzip: RawResponse | None = None

    @property
    def size(self) -> int:
        """About how many bytes it takes, packed once it is asked for."""
        return RESPONSE_OVERHEAD_BYTES + len(self.plain.body) * 3 // 2

    def response_for(self, request_headers: Mapping[bytes, bytes]) -> RawResponse:
        """The form that fits a request's headers."""
        packed = self._compress and _accepts_gzip(request_headers.get(b"accept-encoding", b""))
        if (tags := request_headers.get(b"if-none-match")) is not None and _etag_matches(tags, self._etags):
            return self._not_modified[self._etags[packed]]
        return self._make_gzip() if packed else self.plain

    def _make_gzip(self) -> RawResponse:
        if self._gzip is None:
            body = gzip.compress(self.plain.body, GZIP_LEVEL, mtime=0)
            self._gzip = self._make_response(body, self._etags[1], (b"content-encoding", b"gzip"))
        return self._gzip

    def _make_response(self, body: bytes, tag: bytes, *more: tuple[bytes, bytes]) -> RawResponse:
        return RawResponse(200, [*self._headers, (b"etag", tag), (b"content-length", b"%d" % len(body)), *more], body)


class FifoCache(Generic[K, V]):
    """A bounded number of things by key, and of bytes where their sizes are given; new ones take the place of those
    that were put there first.
    """

    def __init__(self, max_entries: int, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._max_entries, self._max_bytes, self._bytes = max_entries, max_bytes, 0
        self._values: dict[K, V] = {}
        self._sizes: dict[K, int] = {}

    def get(self, key: K) -> V | None:
        """What is kept under a key."""
        return self._values.get(key)

    def put(self, key: K, value: V, size: int = 0) -> V:
        """Keep it; answers it."""
        self.drop(key)
        while self._values and (len(self._values) >= self._max_entries or self._bytes + size > self._max_bytes):
            self.drop(next(iter(self._values)))
        self._values[key], self._sizes[key] = value, size
        self._bytes += size
        return value

    def drop(self, *keys: K) -> None:
        """Keep these no longer."""
        for key in keys:
            self._values.pop(key, None)
            self._bytes -= self._sizes.pop(key, 0)

    def items(self) -> list[tuple[K, V]]:
        """All that is kept."""
        return list(self._values.items())


class SingleFlight(Generic[K, V]):
    """Who asks for what is being made already waits for that."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, make: Callable[[K], Coroutine[Any, Any, V]]) -> V:
        """What `make(key)` answers or raises."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(make(key))
            task.add_done_callback(lambda _: self._running.pop(key))
        return await asyncio.shield(task)


class Brief:
    """A front whose answers are kept for `milliseconds`, as many as `most`; `now` is monotonic."""

    def __init__(
        self,
        make: Callable[[bytes], Coroutine[Any, Any, CachedResponse]],
        now: Callable[[], int],
        milliseconds: int,
        most: int,
    ) -> None:
        self._make, self._now, self._milliseconds = make, now, milliseconds
        self._shelf: FifoCache[bytes, tuple[int, CachedResponse]] = FifoCache(most)
        self._once: SingleFlight[bytes, CachedResponse] = SingleFlight()

    def __call__(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse | None:
        """The answer to a query string if it is kept; 304 when the client has it already."""
        made, kept = self._shelf.get(query) or (0, None)
        return kept.response_for(headers) if kept and self._now() - made < self._milliseconds else None

    async def wait(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse:
        """The answer, made now. Raises what `make` raises."""
        kept = await self._once.run(query, self._make)
        self._shelf.put(query, (self._now(), kept), kept.size + len(query))
        return kept.response_for(headers)


def _accepts_gzip(accepted: bytes) -> bool:
    """Whether Accept-Encoding names gzip, and not with the weight 0."""
    weights = dict(word.replace(b" ", b"").partition(b";")[::2] for word in accepted.split(b","))
    return b"gzip" in weights and (not weights[b"gzip"] or weights[b"gzip"].strip(b"q=0.") != b"")


def _etag_matches(if_none_match: bytes, ours: tuple[bytes, ...]) -> bool:
    """Whether a list of tags holds one of ours, in its weak form too: a compressing proxy makes it weak."""
    if if_none_match in ours or if_none_match == b"*":
        return True
    return any(tag.strip().removeprefix(b"W/") in ours for tag in if_none_match.split(b","))
