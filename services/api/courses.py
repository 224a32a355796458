"""Current rates: `/v1/courses`, frozen in shape, and `/v2/courses`, which says where each number comes from."""

import re
from collections.abc import Mapping, Sequence

from services.api import schemas
from services.api.components import ApiComponents
from services.api.courses_query import CourseSelection, CoursesQuery, CoursesV1Query, select_courses
from services.api.courses_v2 import age_ms, decimal_text, v2_body
from services.api.current_selection import select_current
from services.core.decimals import format_decimal
from services.core.errors import NothingFresh
from services.core.model import Instrument, Rate
from services.core.selection import Selection
from services.web import Content, Endpoint, UntilHubChanges, public
from services.web.quota_policies import COURSES

UNSAFE_IN_HEADER = re.compile(r"[^A-Za-z0-9_.\[\]-]")  # characters of a parameter's name that a header does not repeat
CACHE_CONTROL = public(1, stale=5)
COURSES_V1 = Endpoint(
    path="/v1/courses",
    limit=COURSES,
    aliases=("/courses",),
    query=CoursesV1Query,
    response=schemas.CoursesV1,
    cache=UntilHubChanges(max_entries=512),
    compress=False,
    tag="rates",
    operation_id="courses_v1",
    summary="Current rates from one exchanger",
    description="One exchanger for the whole response: the first in order that is fresh for all requested directions.",
)
COURSES_V2 = Endpoint(
    path="/v2/courses",
    limit=COURSES,
    query=CoursesQuery,
    response=schemas.Courses,
    cache=UntilHubChanges(max_entries=512),
    compress=False,
    tag="rates",
    operation_id="courses_v2",
    summary="Current rates with age and origin",
    description="The same, with the legs of each rate, their ages, and what the other exchanges say.",
)


class CoursesHandler:
    """Current rates in both versions."""

    def __init__(self, parts: ApiComponents) -> None:
        self._hub, self._settings, self._monotonic = parts.deps.hub, parts.deps.settings, parts.deps.clock.monotonic

    @COURSES_V1.handler
    def v1(self, query: CoursesV1Query) -> Content:
        """Return the rates. Raises UnknownName, NothingFresh."""
        now, courses = self._monotonic(), select_courses(query, self._settings, strict=True)
        selection = self._selection(courses, now, partial=courses.all_directions)
        ignored = ",".join(UNSAFE_IN_HEADER.sub("", name)[:40] for name in query.unknown)[:200]
        more = ((b"kurs-ignored", ignored.encode()),) if query.unknown else ()
        return self._content(v1_body(selection), selection, now, more)

    @COURSES_V2.handler
    def v2(self, query: CoursesQuery) -> Content:
        """Return the rates with age and origin. Raises UnknownName, NothingFresh."""
        now, courses = self._monotonic(), select_courses(query, self._settings, strict=False)
        selection = self._selection(courses, now, partial=True)
        body = v2_body(selection, courses.unknown, self._hub.rates, now, self._hub.wall_offset())
        return self._content(body.model_dump_json().encode(), selection, now)

    def _selection(self, courses: CourseSelection, now: int, *, partial: bool) -> Selection:
        try:
            return select_current(self._hub, courses.directions, courses.exchanges, now, partial)
        except NothingFresh as nothing:
            raise _with_last_known(nothing, self._hub.rates, courses.directions, now) from None

    def _content(
        self, body: bytes, selection: Selection, now: int, more: tuple[tuple[bytes, bytes], ...] = ()
    ) -> Content:
        oldest = min(leg.confirmed for each in selection.candidates.values() for leg in each.legs if leg.own)
        headers = [(b"kurs-as-of", b"%d" % (min(oldest, now) + self._hub.wall_offset()))]
        if selection.missing:
            headers.append((b"kurs-missing", ",".join(map(str, selection.missing)).encode()))
        return Content(body, CACHE_CONTROL, (*headers, *more), lifetime_ms=selection.expires - now)


def v1_body(selection: Selection) -> bytes:
    """Return the body of version 1, written by hand: a float would not keep a decimal's digits."""
    rows = ",".join(
        f'{{"direction":"{direction}","value":{format_decimal(offer.value)}}}'
        for direction, offer in selection.candidates.items()
        if offer.value is not None
    )
    return f'{{"exchanger":"{selection.exchange}","courses":[{rows}]}}'.encode()


def _with_last_known(
    nothing: NothingFresh, rates: Mapping[str, Rate], directions: Sequence[Instrument], now: int
) -> NothingFresh:
    """Add the last known rates and their ages to the error: for people, not for use as a rate."""
    known_rates = [rates[str(direction)] for direction in directions if str(direction) in rates]
    firsts = [(rate.direction, next((o for o in rate.candidates if o.value is not None), None)) for rate in known_rates]
    nothing.last_known = [
        {"direction": str(d), "value": decimal_text(o.value), "exchange": o.exchange, "age_ms": age_ms(o, now)}
        for d, o in firsts
        if o
    ]
    return nothing
