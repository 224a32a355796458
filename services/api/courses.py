"""Current rates: `/v1/courses`, frozen in shape, and `/v2/courses`, which says where each number comes from."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from services.api.courses_query import Asked, understood
from services.api.courses_v2 import age_ms, text, v2
from services.api.current_selection import select
from services.core.decimals import number
from services.core.errors import NothingFresh
from services.core.model import Rate
from services.core.selection import Pick
from services.ports import Deps
from services.web import Answer, Kept, Shelf

CACHED = 512  # answers kept, each for another question
REBUILD_MS = 50  # an answer is made anew at most this often
AGAIN_MS = 900  # and at least so often, should nothing change: its ages do, and our wall clock may have been set
NO_NAME = re.compile(r"[^A-Za-z0-9_.\[\]-]")  # what of a parameter's name a header does not repeat
CACHE_CONTROL = b"public, max-age=1, stale-while-revalidate=5"


class _Ready(NamedTuple):
    version: int
    built: int
    expires: int
    kept: Kept


class Courses:
    """Answers to `/v1/courses` and `/v2/courses`, kept as bytes until something changes or grows too old."""

    def __init__(self, deps: Deps, version: int) -> None:
        self._deps, self._version = deps, version
        self._hub, self._now = deps.hub, deps.clock.monotonic
        self._shelf: Shelf[bytes, _Ready] = Shelf(CACHED)

    def answer(self, query: bytes, headers: Mapping[bytes, bytes]) -> Answer:
        """The answer to a query string; 304 when the client has it already."""
        now = self._now()
        ready = self._shelf.get(query)
        changed = ready is None or (ready.version != self._hub.version and now - ready.built >= REBUILD_MS)
        if ready is None or changed or ready.expires < now:
            ready = self._build(query, now)
            self._shelf.put(query, ready, ready.kept.size + len(query))
        return ready.kept.answer(headers)

    def _build(self, query: bytes, now: int) -> _Ready:
        asked = understood(query, self._deps.settings, self._version)
        rates, partial = self._hub.rates, asked.everything or self._version > 1
        try:
            chosen = select(self._hub, asked.directions, asked.exchanges, now, partial)
        except NothingFresh as nothing:
            raise _with_last_known(nothing, rates, asked, now) from None
        by = self._hub.wall_offset()
        kept = Kept(self._body(chosen, asked, now, by), _headers(chosen, asked, now, by))
        return _Ready(self._hub.version, now, min(chosen.expires, now + AGAIN_MS), kept)

    def _body(self, chosen: Pick, asked: Asked, now: int, by: int) -> bytes:
        if self._version == 1:
            return v1(chosen)
        return v2(chosen, asked, self._hub.rates, now, by).model_dump_json().encode()


def v1(chosen: Pick) -> bytes:
    """The asked shape, written by hand: a JSON number keeps a decimal's digits only if no float ever held it."""
    rows = ",".join(
        f'{{"direction":"{direction}","value":{number(offer.value)}}}'
        for direction, offer in chosen.offers.items()
        if offer.value is not None
    )
    return f'{{"exchanger":"{chosen.exchange}","courses":[{rows}]}}'.encode()


def _headers(chosen: Pick, asked: Asked, now: int, by: int) -> list[tuple[bytes, bytes]]:
    oldest = min(leg.confirmed for offer in chosen.offers.values() for leg in offer.legs if leg.own)
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", CACHE_CONTROL),
        (b"vary", b"Origin"),
        (b"kurs-as-of", str(min(oldest, now) + by).encode()),
    ]
    if chosen.missing:
        headers.append((b"kurs-missing", ",".join(map(str, chosen.missing)).encode()))
    if asked.ignored:
        headers.append((b"kurs-ignored", ",".join(NO_NAME.sub("", name)[:40] for name in asked.ignored)[:200].encode()))
    return headers


def _with_last_known(nothing: NothingFresh, rates: Mapping[str, Rate], asked: Asked, now: int) -> NothingFresh:
    """The refusal with what was known last and how old it is: for people, not for use as a rate."""
    known = [rates[str(direction)] for direction in asked.directions if str(direction) in rates]
    firsts = [(rate.direction, next((o for o in rate.offers if o.value is not None), None)) for rate in known]
    nothing.last_known = [
        {"direction": str(d), "value": text(o.value), "exchange": o.exchange, "age_ms": age_ms(o, now)}
        for d, o in firsts
        if o
    ]
    return nothing
