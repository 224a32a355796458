"""What a question about candles asks for, read from its query string."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from services.api.courses_query import asked_of, words_of
from services.core import times
from services.core.errors import BadRange, BadRequest, unknown_name
from services.core.timeframes import TIMEFRAMES, Timeframe

MOST = 1000  # candles in one answer
FILLS = ("none", "prev", "null")
FLAGS = {"": False, "false": False, "0": False, "true": True, "1": True}
Words = Mapping[str, Sequence[str]]


class Period(NamedTuple):
    """Openings in [since, until]; without `since` the newest up to `until`. `limit`: no more than so many."""

    since: int | None
    until: int
    limit: int | None = None


def words(query: bytes, question: type[BaseModel] | None = None) -> Words:
    """The query's parameters, which are the question's. Raises BadRequest."""
    return asked_of(query, question) if question else words_of(query)


def one(asked: Words, name: str, example: str = "") -> str:
    """The one value of a parameter; "" when it is not there and no `example` says that it must be."""
    values = asked.get(name, ())
    if not values and example:
        raise BadRequest(f"{name} is missing: write {name}={example}")
    if len(values) > 1:
        raise BadRequest(f"{name} has {len(values)} values, one is understood")
    return values[0] if values else ""


def timeframe(asked: Words) -> Timeframe:
    """The timeframe. Raises BadRequest, UnknownName."""
    name = one(asked, "timeframe", "1m")
    if name not in TIMEFRAMES:
        raise unknown_name("timeframe", name, list(TIMEFRAMES))
    return TIMEFRAMES[name]


def fill(asked: Words) -> str:
    """What stands for candles that are missing. Raises UnknownName."""
    name = one(asked, "fill").lower() or "none"
    if name not in FILLS:
        raise unknown_name("fill", name, FILLS)
    return name


def period(asked: Words, now: int) -> Period:
    """`from`, `to` and `limit`. Raises BadRequest, BadRange."""
    since, until, limit = time(asked, "from"), time(asked, "to"), whole(asked, "limit", MOST)
    if since is not None and since > now:
        raise BadRange(f"from, {times.written(since)}, is in the future: it is {times.written(now)}")
    if since is not None and until is not None and since > until:
        raise BadRange(f"from, {times.written(since)}, is after to, {times.written(until)}: exchange them")
    return Period(since, now if until is None else min(until, now), limit)


def time(asked: Words, name: str) -> int | None:
    """A time in ms. Raises BadRequest."""
    text = one(asked, name)
    try:
        return times.parse(text) if text else None
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None


def whole(asked: Words, name: str, most: int) -> int | None:
    """A whole number from 1 to `most`. Raises BadRequest, BadRange."""
    text = one(asked, name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"{name}: {text[:40]!r} is not a whole number: write 1 to {most}")
    if len(text) > 20 or not 1 <= int(text) <= most:
        raise BadRange(f"{name}: {text[:20]} is not from 1 to {most}; ask for more with several requests")
    return int(text)


def flag(asked: Words, name: str) -> bool:
    """Whether something is asked for that is not there without. Raises BadRequest."""
    text = one(asked, name).lower()
    if text not in FLAGS:
        raise BadRequest(f"{name}: {text[:20]!r} is neither true nor false")
    return FLAGS[text]


def bounded(timeframe: Timeframe, since: int, until: int) -> None:
    """Raises BadRange when more candles than one answer has would be in [since, until]."""
    count = timeframe.expected(since, until) if timeframe.length else 0
    if count > MOST:
        last = timeframe.back(timeframe.opening(since) + MOST * timeframe.length, 1)
        raise BadRange(
            f"{times.written(since)} to {times.written(until)} has {count} candles of {timeframe.name}, at most {MOST} "
            f"are answered: end at {times.written(last)}, or write limit={MOST} and go on from the last one"
        )
