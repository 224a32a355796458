"""What a request for courses asks for, read from its query string."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple
from urllib.parse import parse_qs

from pydantic import BaseModel

from services.core.errors import BadRequest, UnknownName, unknown_name
from services.core.model import Instrument
from services.settings import Settings

MAX_QUERY_BYTES = 2_000
PARAMETERS = ("direction", "base", "quote", "exchanger")
CACHE_BUSTER = "_"  # what some clients add so that no cache answers


class CoursesQuery(NamedTuple):
    """What a request asks for. `everything`: it named no direction, so an answer without some is an answer."""

    directions: tuple[Instrument, ...]
    exchanges: tuple[str, ...]
    all_directions: bool
    unknown: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def parse_courses_query(query: bytes, settings: Settings, version: int) -> CoursesQuery:
    """The query's `direction`, `base`, `quote` and `exchanger`, each a comma list. Raises BadRequest, UnknownName.

    In version 1 an unknown direction is an error, and an unknown parameter is among `ignored`. In version 2 the
    parameter is an error, and the direction is among `unknown`.
    """
    strict, words = version == 1, query_params(query)
    if not strict:
        reject_unknown(words, PARAMETERS)
    existing = {str(direction): direction for direction in settings.directions}
    named = [word.upper() for word in words.get("direction", ())]
    unknown = tuple(name for name in named if name not in existing)
    if unknown and (strict or len(unknown) == len(named)):
        raise unknown_name("direction", unknown[0], list(existing))
    directions = [existing[name] for name in named if name in existing] if named else list(settings.directions)
    for place, field in enumerate(("base", "quote")):
        known = list(dict.fromkeys(direction[place] for direction in settings.directions))
        if only := _check_names(field, [word.upper() for word in words.get(field, ())], known):
            directions = [direction for direction in directions if direction[place] in only]
    if not directions:
        raise UnknownName("no direction is all of what was asked: direction, base and quote exclude one another")
    wanted = _check_names("exchanger", [word.lower() for word in words.get("exchanger", ())], settings.exchanges)
    order = tuple(name for name in settings.exchanges if not wanted or name in wanted)
    ignored = tuple(name for name in words if name not in PARAMETERS and name != CACHE_BUSTER)
    return CoursesQuery(tuple(directions), order, not named, unknown, ignored)


def checked_params(query: bytes, question: type[BaseModel]) -> dict[str, list[str]]:
    """The query's parameters, all of which are the question's. Raises BadRequest."""
    words = query_params(query)
    reject_unknown(words, _names(question))
    return words


def reject_unknown(words: Mapping[str, object], known: Collection[str]) -> None:
    """What is passed over in silence is a filter that its client believes in. Raises BadRequest."""
    for name in words:
        if name not in known and name != CACHE_BUSTER:
            near = get_close_matches(name[:40], known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise BadRequest(f"there is no parameter {name[:40]!r}; {hint}there are: {', '.join(known)}")


@cache
def _names(question: type[BaseModel]) -> Sequence[str]:
    return [field.alias or name for name, field in question.model_fields.items()]


def query_params(query: bytes) -> dict[str, list[str]]:
    """The query's parameters, each a comma list that may be repeated, without doubles. Raises BadRequest."""
    if len(query) > MAX_QUERY_BYTES:
        raise BadRequest(f"the query string is {len(query)} bytes long, at most {MAX_QUERY_BYTES} are read")
    try:
        fields = parse_qs(query.decode("ascii", "replace"), max_num_fields=50)
    except ValueError:
        raise BadRequest("the query string has more than 50 parameters") from None
    split = {name: [word.strip() for value in values for word in value.split(",")] for name, values in fields.items()}
    return {name: list(dict.fromkeys(filter(None, words))) for name, words in split.items()}


def _check_names(what: str, names: Sequence[str], existing: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in existing:
            raise unknown_name(what, name, existing)
    return names
