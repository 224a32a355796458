"""The query of `/v1/courses` and `/v2/courses`, and what it selects of the configured directions and exchanges."""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from services.core.errors import UnknownName, unknown_name
from services.core.model import Instrument
from services.settings import Settings
from services.web import UnknownNames

Names = Annotated[tuple[str, ...], Meta(description="A comma list")]


class CoursesQuery(Struct, kw_only=True, frozen=True):
    """Which rates, and from which exchanges."""

    direction: Names = ()
    base: Names = ()
    quote: Names = ()
    exchanger: Names = ()


class CoursesV1Query(CoursesQuery, kw_only=True, frozen=True):
    """The same in version 1, where unknown parameters are no error."""

    unknown: UnknownNames = ()


class CourseSelection(NamedTuple):
    """What a query selects. `all_directions`: it names none, so a response without some of them is complete.

    `unknown`: names of directions that are not configured.
    """

    directions: tuple[Instrument, ...]
    exchanges: tuple[str, ...]
    all_directions: bool
    unknown: tuple[str, ...] = ()


def select_courses(query: CoursesQuery, settings: Settings, *, strict: bool) -> CourseSelection:
    """Return what a query selects. `strict`: each unknown direction is an error. Raises UnknownName."""
    configured = {str(direction): direction for direction in settings.directions}
    named = _normalized(query.direction, str.upper)
    unknown = tuple(name for name in named if name not in configured)
    if unknown and (strict or len(unknown) == len(named)):
        raise unknown_name("direction", unknown[0], list(configured))
    directions = [configured[name] for name in named if name in configured] if named else list(settings.directions)
    for index, (field, names) in enumerate((("base", query.base), ("quote", query.quote))):
        if names:
            known = list(dict.fromkeys(direction[index] for direction in settings.directions))
            only = _check_names(field, _normalized(names, str.upper), known)
            directions = [direction for direction in directions if direction[index] in only]
    if not directions:
        raise UnknownName("no configured direction matches all of direction, base and quote")
    exchanges = _check_names("exchanger", _normalized(query.exchanger, str.lower), settings.exchanges)
    order = tuple(name for name in settings.exchanges if not exchanges or name in exchanges)
    return CourseSelection(tuple(directions), order, not named, unknown)


def _normalized(names: Sequence[str], case: Callable[[str], str]) -> list[str]:
    return [case(name) for name in names]


def _check_names(kind: str, names: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)
    return names
