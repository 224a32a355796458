"""Binance's query parameters: read, checked, and refused in Binance's own words."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from services.core.model import Instrument
from services.simulator.fault_injection import About
from services.simulator.market.listings import BINANCE, FROZEN, MINUTE
from services.simulator.rest_server import Wrong

Query = Mapping[str, str]
HOUR = 60 * MINUTE
MOST_DIGITS = 20
MICROSECONDS = 10**14  # a time above it is in µs
PATTERNS = {
    "symbol": "^[A-Z0-9-_.]{1,20}$",
    "symbols": '^\\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\\]$',
}


def refuse(code: int, text: str) -> NoReturn:
    """Answer with an error."""
    raise Wrong(400, {"code": code, "msg": text})


def missing(parameter: str) -> NoReturn:
    """A required parameter is not there."""
    refuse(-1102, f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed.")


def symbol(query: Query) -> str:
    """The one symbol asked for."""
    return _known(query.get("symbol") or missing("symbol"))


def symbols(query: Query) -> list[str]:
    """The symbols asked for; all of them if none is named."""
    if "symbol" in query and "symbols" in query:
        refuse(-1128, "Combination of optional parameters invalid.")
    if "symbol" in query:
        return [symbol(query)]
    if "symbols" not in query:
        return [*BINANCE, *FROZEN]
    try:
        names = msgspec.json.decode(query["symbols"], type=list[str])
    except msgspec.MsgspecError:
        _illegal("symbols")
    if len(set(names)) < len(names):
        refuse(-1151, "Symbol is present multiple times in the list.")
    return [_known(name) for name in names]


def each(query: Query, row: Callable[[str], dict[str, Any]]) -> Any:
    """A row for the symbol, or rows for the symbols in the status asked for."""
    status = query.get("symbolStatus")
    if status not in (None, "TRADING", "HALT", "BREAK"):
        refuse(-1122, "Invalid symbolStatus.")
    names = [name for name in symbols(query) if status in (None, "BREAK" if name in FROZEN else "TRADING")]
    if "symbol" not in query:
        return [About(instrument(name), row(name)) for name in names]
    if not names:
        refuse(-1220, "The symbol's status does not match the requested symbolStatus.")
    return About(instrument(names[0]), row(names[0]))


def instrument(name: str) -> Instrument:
    """What a symbol trades."""
    return FROZEN[name][0] if name in FROZEN else BINANCE[name].instrument


def moment(query: Query, parameter: str) -> int | None:
    """A time in ms, given in ms or µs."""
    number = whole(query, parameter)
    return number // 1000 if number is not None and number >= MICROSECONDS else number


def whole(query: Query, parameter: str) -> int | None:
    """A whole number, or None if there is none."""
    text = query.get(parameter)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        _illegal(parameter)
    return int(text)


def limit(query: Query, default: int, most: int) -> int:
    """How many rows; more than there may be is as many as there may be."""
    number = whole(query, "limit")
    if number == 0:
        refuse(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(number or default, most)


def time_zone(query: Query) -> int:
    """`-5:30` → ms ahead of UTC."""
    text = query.get("timeZone", "0")
    hours, _, minutes = text.partition(":")
    try:
        size = abs(int(hours)) * HOUR + int(minutes or 0) * MINUTE
    except ValueError:
        size = 24 * HOUR
    shift = -size if text.startswith("-") else size
    if not -12 * HOUR <= shift <= 14 * HOUR:
        refuse(-1130, "Data sent for parameter 'timeZone' is not valid.")
    return shift


def _known(name: str) -> str:
    if not all(letter.isdigit() or letter.isupper() or letter in "-_." for letter in name):
        _illegal("symbol")
    if name not in BINANCE and name not in FROZEN:
        refuse(-1121, "Invalid symbol.")
    return name


def _illegal(parameter: str) -> NoReturn:
    legal = PATTERNS.get(parameter, f"^[0-9]{{1,{MOST_DIGITS}}}$")
    refuse(-1100, f"Illegal characters found in parameter '{parameter}'; legal range is '{legal}'.")
