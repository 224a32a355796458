"""What a request for courses asks for, read from its query string."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

from services.core.errors import BadRequest, UnknownName, unknown_name
from services.core.model import Instrument
from services.settings import Settings

LONGEST_QUERY = 2_000


class Asked(NamedTuple):
    """What a request asks for. `everything`: it named no direction, so an answer without some is an answer."""

    directions: tuple[Instrument, ...]
    exchanges: tuple[str, ...]
    everything: bool
    unknown: tuple[str, ...] = ()


def understood(query: bytes, settings: Settings, strict: bool) -> Asked:
    """The query's `direction`, `base`, `quote` and `exchanger`, each a comma list. Raises BadRequest, UnknownName.

    With `strict`, an unknown direction is an error; else it is among `unknown`.
    """
    words = words_of(query)
    existing = {str(direction): direction for direction in settings.directions}
    named = [word.upper() for word in words.get("direction", ())]
    unknown = tuple(name for name in named if name not in existing)
    if unknown and (strict or len(unknown) == len(named)):
        raise unknown_name("direction", unknown[0], list(existing))
    directions = [existing[name] for name in named if name in existing] if named else list(settings.directions)
    for place, field in enumerate(("base", "quote")):
        known = list(dict.fromkeys(direction[place] for direction in settings.directions))
        if only := _known(field, [word.upper() for word in words.get(field, ())], known):
            directions = [direction for direction in directions if direction[place] in only]
    if not directions:
        raise UnknownName("no direction is all of what was asked: direction, base and quote exclude one another")
    wanted = _known("exchanger", [word.lower() for word in words.get("exchanger", ())], settings.exchanges)
    order = tuple(name for name in settings.exchanges if not wanted or name in wanted)
    return Asked(tuple(directions), order, not named, unknown)


def words_of(query: bytes) -> dict[str, list[str]]:
    """The query's parameters, each a comma list that may be repeated, without doubles."""
    if len(query) > LONGEST_QUERY:
        raise BadRequest(f"the query string is {len(query)} bytes long, at most {LONGEST_QUERY} are read")
    try:
        fields = parse_qs(query.decode("ascii", "replace"), max_num_fields=50)
    except ValueError:
        raise BadRequest("the query string has more than 50 parameters") from None
    split = {name: [word.strip() for value in values for word in value.split(",")] for name, values in fields.items()}
    return {name: list(dict.fromkeys(filter(None, words))) for name, words in split.items()}


def _known(what: str, names: Sequence[str], existing: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in existing:
            raise unknown_name(what, name, existing)
    return names
