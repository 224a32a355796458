"""Answers about candles, kept as bytes until one of the candles in them changes."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from services.core.model import Candle, Series
from services.ports import Deps
from services.web import CachedResponse, FifoCache, Headers, RawResponse, SingleFlight

CACHED = 128  # answers kept, each for another question
FORMING_MS, CLOSED_MS = 1_000, 60_000  # how long an answer with and without the forming candle is kept
FORMING = b"public, max-age=1, stale-while-revalidate=5"
CLOSED = b"public, max-age=60"


class Ready(NamedTuple):
    """An answer that is made of candles with openings in [since, until], and for how many ms it lasts."""

    series: Series
    since: int
    until: int
    lasts: int
    kept: CachedResponse


class Answers:
    """A front. Questions that come while one like them is being answered wait for that answer."""

    def __init__(self, deps: Deps, build: Callable[[bytes], Coroutine[Any, Any, Ready]]) -> None:
        self._build, self._monotonic = build, deps.clock.monotonic
        self._shelf: FifoCache[bytes, tuple[int, Ready]] = FifoCache(CACHED)  # each with when it expires
        self._once: SingleFlight[bytes, Ready] = SingleFlight()
        deps.hub.on_candle(self._heard)

    def __call__(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse | None:
        """The answer to a query string if it is kept; 304 when the client has it already."""
        expires, ready = self._shelf.get(query) or (0, None)
        return ready.kept.response_for(headers) if ready and expires > self._monotonic() else None

    async def wait(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse:
        """The answer, made now. Raises KursError."""
        ready = await self._once.run(query, self._made)
        return ready.kept.response_for(headers)

    async def _made(self, query: bytes) -> Ready:
        began, ready = self._monotonic(), await self._build(query)
        self._shelf.put(query, (began + ready.lasts, ready), ready.kept.size + len(query))
        return ready

    def _heard(self, candle: Candle) -> None:
        """What holds a closed candle that is new or changed is answered anew."""
        if candle.closed:
            for query, (_, ready) in self._shelf.items():
                if ready.series == candle.series and ready.since <= candle.bar.open_time <= ready.until:
                    self._shelf.drop(query)


def headers(exchange: str, closed: bool) -> Headers:
    """Of an answer; `closed`: it is made of candles that nothing more is traded in."""
    return [
        (b"content-type", b"application/json"),
        (b"cache-control", CLOSED if closed else FORMING),
        (b"vary", b"Origin, Accept-Encoding"),
        (b"kurs-exchange", exchange.encode()),
    ]
