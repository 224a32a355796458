"""Binance's query parameters: parsed, checked, and rejected with Binance's messages."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from services.core.model import Instrument
from services.simulator.fault_injection import InstrumentBody
from services.simulator.market.listings import BINANCE, DELISTED, MINUTE
from services.simulator.rest_server import ApiError

Query = Mapping[str, str]
HOUR = 60 * MINUTE
MAX_DIGITS = 20
MIN_MICROSECONDS = 10**14  # a time from here on is in µs
PATTERNS = {
    "symbol": "^[A-Z0-9-_.]{1,20}$",
    "symbols": '^\\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\\]$',
}


def reject(code: int, text: str) -> NoReturn:
    """Raise an error of Binance."""
    raise ApiError(400, {"code": code, "msg": text})


def reject_missing(parameter: str) -> NoReturn:
    """Reject a request without a required parameter."""
    reject(-1102, f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed.")


def symbol(query: Query) -> str:
    """Return the requested symbol."""
    return _checked_symbol(query.get("symbol") or reject_missing("symbol"))


def symbols(query: Query) -> list[str]:
    """Return the requested symbols; all of them if none is named."""
    if "symbol" in query and "symbols" in query:
        reject(-1128, "Combination of optional parameters invalid.")
    if "symbol" in query:
        return [symbol(query)]
    if "symbols" not in query:
        return [*BINANCE, *DELISTED]
    try:
        names = msgspec.json.decode(query["symbols"], type=list[str])
    except msgspec.MsgspecError:
        _reject_characters("symbols")
    if len(set(names)) < len(names):
        reject(-1151, "Symbol is present multiple times in the list.")
    return [_checked_symbol(name) for name in names]


def per_symbol(query: Query, row: Callable[[str], dict[str, Any]]) -> Any:
    """Return a row for the symbol, or rows for the symbols with the requested status."""
    status = query.get("symbolStatus")
    if status not in (None, "TRADING", "HALT", "BREAK"):
        reject(-1122, "Invalid symbolStatus.")
    names = [name for name in symbols(query) if status in (None, "BREAK" if name in DELISTED else "TRADING")]
    if "symbol" not in query:
        return [InstrumentBody(instrument_of(name), row(name)) for name in names]
    if not names:
        reject(-1220, "The symbol's status does not match the requested symbolStatus.")
    return InstrumentBody(instrument_of(names[0]), row(names[0]))


def instrument_of(name: str) -> Instrument:
    """Return the instrument of a symbol."""
    return DELISTED[name][0] if name in DELISTED else BINANCE[name].instrument


def time_ms(query: Query, parameter: str) -> int | None:
    """Return a time in ms, which may be given in µs."""
    number = integer(query, parameter)
    return number // 1000 if number is not None and number >= MIN_MICROSECONDS else number


def integer(query: Query, parameter: str) -> int | None:
    """Return an integer, or None if the parameter is missing."""
    text = query.get(parameter)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        _reject_characters(parameter)
    return int(text)


def limit(query: Query, default: int, max_rows: int) -> int:
    """Return the number of rows, `max_rows` at most."""
    number = integer(query, "limit")
    if number == 0:
        reject(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(number or default, max_rows)


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
        reject(-1130, "Data sent for parameter 'timeZone' is not valid.")
    return shift


def _checked_symbol(name: str) -> str:
    if not all(letter.isdigit() or letter.isupper() or letter in "-_." for letter in name):
        _reject_characters("symbol")
    if name not in BINANCE and name not in DELISTED:
        reject(-1121, "Invalid symbol.")
    return name


def _reject_characters(parameter: str) -> NoReturn:
    legal = PATTERNS.get(parameter, f"^[0-9]{{1,{MAX_DIGITS}}}$")
    reject(-1100, f"Illegal characters found in parameter '{parameter}'; legal range is '{legal}'.")
