"""Caches of responses in this process, one class for each cache policy of an endpoint."""

from typing import Protocol

from services.core.model import Candle
from services.hub import Hub
from services.ports import Clock
from services.web.cached_response import CachedResponse
from services.web.caching import FifoCache
from services.web.endpoint import CachePolicy, CandleSpan, Content, Ttl, UntilCandleChanges, UntilHubChanges


class ResponseCache(Protocol):
    """Responses of one endpoint by their queries."""

    def get(self, key: bytes) -> CachedResponse | None:
        """Return the response if it is still valid."""

    def put(self, key: bytes, response: CachedResponse, content: Content, started: int) -> None:
        """Cache a response whose handler started then (monotonic)."""


def response_cache(policy: CachePolicy | None, clock: Clock, hub: Hub) -> ResponseCache:
    """Return an empty cache of a policy."""
    match policy:
        case Ttl():
            return TtlCache(policy, clock)
        case UntilHubChanges():
            return HubCache(policy, clock, hub)
        case UntilCandleChanges():
            return CandleResponseCache(policy, clock, hub)
    return EmptyCache()


class EmptyCache:
    """The cache of an endpoint whose responses are not cached."""

    def get(self, _key: bytes) -> None:
        """Return nothing."""

    def put(self, _key: bytes, _response: CachedResponse, _content: Content, _started: int) -> None:
        """Cache nothing."""


class TtlCache:
    """Responses that are valid for the same time."""

    def __init__(self, policy: Ttl, clock: Clock) -> None:
        self._ttl_ms, self._monotonic = policy.milliseconds, clock.monotonic
        self._entries: FifoCache[bytes, tuple[CachedResponse, int]] = FifoCache(policy.max_entries)

    def get(self, key: bytes) -> CachedResponse | None:
        """Return the response if it is still valid."""
        response, expires = self._entries.get(key) or (None, 0)
        return response if expires > self._monotonic() else None

    def put(self, key: bytes, response: CachedResponse, _content: Content, _started: int) -> None:
        """Cache a response from now on."""
        self._entries.put(key, (response, self._monotonic() + self._ttl_ms), response.size + len(key))


class HubCache:
    """Responses that are valid until the hub changes."""

    def __init__(self, policy: UntilHubChanges, clock: Clock, hub: Hub) -> None:
        self._min_ms, self._max_ms = policy.min_ms, policy.max_ms
        self._hub, self._monotonic = hub, clock.monotonic
        self._entries: FifoCache[bytes, tuple[CachedResponse, int, int, int]] = FifoCache(policy.max_entries)
        self._get = self._entries.get

    def get(self, key: bytes) -> CachedResponse | None:
        """Return the response if it is still valid."""
        entry = self._get(key)
        if entry is None:
            return None
        response, version, may_change, expires = entry
        now = self._monotonic()
        if expires < now or (version != self._hub.version and may_change <= now):
            return None
        return response

    def put(self, key: bytes, response: CachedResponse, content: Content, started: int) -> None:
        """Cache a response for the content's lifetime at most."""
        lifetime = self._max_ms if content.lifetime_ms is None else min(content.lifetime_ms, self._max_ms)
        expires = started + lifetime
        entry = response, self._hub.version, started + self._min_ms, expires
        self._entries.put(key, entry, response.size + len(key))


class CandleResponseCache:
    """Responses that are valid until one of their closed candles changes."""

    def __init__(self, policy: UntilCandleChanges, clock: Clock, hub: Hub) -> None:
        self._monotonic = clock.monotonic
        self._entries: FifoCache[bytes, tuple[CachedResponse, int, CandleSpan]] = FifoCache(policy.max_entries)
        hub.on_candle(self._on_candle)

    def get(self, key: bytes) -> CachedResponse | None:
        """Return the response if it is still valid."""
        entry = self._entries.get(key)
        return entry[0] if entry is not None and entry[1] > self._monotonic() else None

    def put(self, key: bytes, response: CachedResponse, content: Content, started: int) -> None:
        """Cache a response for the content's lifetime, counted from the start: it may be as old as that."""
        if content.span is not None:
            entry = response, started + (content.lifetime_ms or 0), content.span
            self._entries.put(key, entry, response.size + len(key))

    def _on_candle(self, candle: Candle) -> None:
        if not candle.closed:
            return
        for key, (_, _, span) in self._entries.items():
            if span.series == candle.series and span.since <= candle.bar.open_time <= span.until:
                self._entries.drop(key)
