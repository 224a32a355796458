"""What a question about candles asks for, read from its query string."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from services.api.courses_query import checked_params, query_params
from services.core import times
from services.core.errors import BadRange, BadRequest, unknown_name
from services.core.timeframes import TIMEFRAMES, Timeframe

MAX_CANDLES = 1000  # candles in one answer
FILLS = ("none", "prev", "null")
FLAGS = {"": False, "false": False, "0": False, "true": True, "1": True}
Params = Mapping[str, Sequence[str]]


class CandleRange(NamedTuple):
    """Openings in [since, until]; without `since` the newest up to `until`. `limit`: no more than so many."""

    since: int | None
    until: int
    limit: int | None = None


def params(query: bytes, question: type[BaseModel] | None = None) -> Params:
    """The query's parameters, which are the question's. Raises BadRequest."""
    return checked_params(query, question) if question else query_params(query)


def single(asked: Params, name: str, example: str = "") -> str:
    """The one value of a parameter; "" when it is not there and no `example` says that it must be."""
    values = asked.get(name, ())
    if not values and example:
        raise BadRequest(f"{name} is missing: write {name}={example}")
    if len(values) > 1:
        raise BadRequest(f"{name} has {len(values)} values, one is understood")
    return values[0] if values else ""


def timeframe(asked: Params) -> Timeframe:
    """The timeframe. Raises BadRequest, UnknownName."""
    name = single(asked, "timeframe", "1m")
    if name not in TIMEFRAMES:
        raise unknown_name("timeframe", name, list(TIMEFRAMES))
    return TIMEFRAMES[name]


def fill(asked: Params) -> str:
    """What stands for candles that are missing. Raises UnknownName."""
    name = single(asked, "fill").lower() or "none"
    if name not in FILLS:
        raise unknown_name("fill", name, FILLS)
    return name


def candle_range(asked: Params, now: int) -> CandleRange:
    """`from`, `to` and `limit`. Raises BadRequest, BadRange."""
    since, until, limit = time(asked, "from"), time(asked, "to"), integer(asked, "limit", MAX_CANDLES)
    if since is not None and since > now:
        raise BadRange(f"from, {times.format_rfc3339(since)}, is in the future: it is {times.format_rfc3339(now)}")
    if since is not None and until is not None and since > until:
        raise BadRange(
            f"from, {times.format_rfc3339(since)}, is after to, {times.format_rfc3339(until)}: exchange them"
        )
    return CandleRange(since, now if until is None else min(until, now), limit)


def time(asked: Params, name: str) -> int | None:
    """A time in ms. Raises BadRequest."""
    text = single(asked, name)
    try:
        return times.parse(text) if text else None
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None


def integer(asked: Params, name: str, most: int) -> int | None:
    """A whole number from 1 to `most`. Raises BadRequest, BadRange."""
    text = single(asked, name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"{name}: {text[:40]!r} is not a whole number: write 1 to {most}")
    if len(text) > 20 or not 1 <= int(text) <= most:
        raise BadRange(f"{name}: {text[:20]} is not from 1 to {most}; ask for more with several requests")
    return int(text)


def flag(asked: Params, name: str) -> bool:
    """Whether something is asked for that is not there without. Raises BadRequest."""
    text = single(asked, name).lower()
    if text not in FLAGS:
        raise BadRequest(f"{name}: {text[:20]!r} is neither true nor false")
    return FLAGS[text]


def check_range(timeframe: Timeframe, since: int, until: int) -> None:
    """Raises BadRange when more candles than one answer has would be in [since, until]."""
    count = timeframe.count_between(since, until) if timeframe.length else 0
    if count > MAX_CANDLES:
        last = timeframe.step_back(timeframe.open_time(since) + MAX_CANDLES * timeframe.length, 1)
        raise BadRange(
            f"{times.format_rfc3339(since)} to {times.format_rfc3339(until)} has {count} candles of {timeframe.name}, "
            f"at most {MAX_CANDLES} are answered: end at {times.format_rfc3339(last)}, "
            f"or write limit={MAX_CANDLES} and go on from the last one"
        )
