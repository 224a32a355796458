"""Current rates: `/v1/courses`, frozen in shape, and `/v2/courses`, which says where each number comes from."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from services.api.courses_query import CoursesQuery, parse_courses_query
from services.api.courses_v2 import age_ms, decimal_text, v2_body
from services.api.current_selection import select_current
from services.core.decimals import format_decimal
from services.core.errors import NothingFresh
from services.core.model import Rate
from services.core.selection import Selection
from services.ports import Deps
from services.web import CachedResponse, FifoCache, RawResponse

MAX_CACHED_RESPONSES = 512  # answers kept, each for another question
MIN_REBUILD_MS = 50  # an answer is made anew at most this often
MAX_RESPONSE_AGE_MS = (
    900  # and at least so often, should nothing change: its ages do, and our wall clock may have been set
)
UNSAFE_IN_HEADER = re.compile(r"[^A-Za-z0-9_.\[\]-]")  # what of a parameter's name a header does not repeat
CACHE_CONTROL = b"public, max-age=1, stale-while-revalidate=5"


class _CachedCourses(NamedTuple):
    version: int
    built: int
    expires: int
    kept: CachedResponse


class CoursesHandler:
    """Answers to `/v1/courses` and `/v2/courses`, kept as bytes until something changes or grows too old."""

    def __init__(self, deps: Deps, version: int) -> None:
        self._deps, self._version = deps, version
        self._hub, self._now = deps.hub, deps.clock.monotonic
        self._shelf: FifoCache[bytes, _CachedCourses] = FifoCache(MAX_CACHED_RESPONSES)

    def answer(self, query: bytes, headers: Mapping[bytes, bytes]) -> RawResponse:
        """The answer to a query string; 304 when the client has it already."""
        now = self._now()
        ready = self._shelf.get(query)
        changed = ready is None or (ready.version != self._hub.version and now - ready.built >= MIN_REBUILD_MS)
        if ready is None or changed or ready.expires < now:
            ready = self._build(query, now)
            self._shelf.put(query, ready, ready.kept.size + len(query))
        return ready.kept.response_for(headers)

    def _build(self, query: bytes, now: int) -> _CachedCourses:
        asked = parse_courses_query(query, self._deps.settings, self._version)
        rates, partial = self._hub.rates, asked.all_directions or self._version > 1
        try:
            chosen = select_current(self._hub, asked.directions, asked.exchanges, now, partial)
        except NothingFresh as nothing:
            raise _with_last_known(nothing, rates, asked, now) from None
        by = self._hub.wall_offset()
        kept = CachedResponse(self._body(chosen, asked, now, by), _headers(chosen, asked, now, by))
        return _CachedCourses(self._hub.version, now, min(chosen.expires, now + MAX_RESPONSE_AGE_MS), kept)

    def _body(self, chosen: Selection, asked: CoursesQuery, now: int, by: int) -> bytes:
        if self._version == 1:
            return v1_body(chosen)
        return v2_body(chosen, asked, self._hub.rates, now, by).model_dump_json().encode()


def v1_body(chosen: Selection) -> bytes:
    """The asked shape, written by hand: a JSON number keeps a decimal's digits only if no float ever held it."""
    rows = ",".join(
        f'{{"direction":"{direction}","value":{format_decimal(offer.value)}}}'
        for direction, offer in chosen.candidates.items()
        if offer.value is not None
    )
    return f'{{"exchanger":"{chosen.exchange}","courses":[{rows}]}}'.encode()


def _headers(chosen: Selection, asked: CoursesQuery, now: int, by: int) -> list[tuple[bytes, bytes]]:
    oldest = min(leg.confirmed for offer in chosen.candidates.values() for leg in offer.legs if leg.own)
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", CACHE_CONTROL),
        (b"vary", b"Origin"),
        (b"kurs-as-of", str(min(oldest, now) + by).encode()),
    ]
    if chosen.missing:
        headers.append((b"kurs-missing", ",".join(map(str, chosen.missing)).encode()))
    if asked.ignored:
        headers.append(
            (b"kurs-ignored", ",".join(UNSAFE_IN_HEADER.sub("", name)[:40] for name in asked.ignored)[:200].encode())
        )
    return headers


def _with_last_known(nothing: NothingFresh, rates: Mapping[str, Rate], asked: CoursesQuery, now: int) -> NothingFresh:
    """The refusal with what was known last and how old it is: for people, not for use as a rate."""
    known = [rates[str(direction)] for direction in asked.directions if str(direction) in rates]
    firsts = [(rate.direction, next((o for o in rate.candidates if o.value is not None), None)) for rate in known]
    nothing.last_known = [
        {"direction": str(d), "value": decimal_text(o.value), "exchange": o.exchange, "age_ms": age_ms(o, now)}
        for d, o in firsts
        if o
    ]
    return nothing
