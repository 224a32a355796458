"""CoinGecko's query parameters."""

from collections.abc import Mapping
from typing import NoReturn

from services.core.model import Instrument
from services.simulator.market.listings import COINGECKO_CURRENCIES, COINS
from services.simulator.rest_server import ApiError

Query = Mapping[str, str]
MAX_PRECISION = 18  # decimals


def reject(text: str) -> NoReturn:
    """Raise an error of CoinGecko."""
    raise ApiError(422, {"error": text})


def pair(coin: str, currency: str) -> Instrument:
    """Return the instrument of a coin's price."""
    return Instrument(COINS[coin][0], currency.upper())


def coins(query: Query) -> list[str]:
    """Return the coins requested by id, name or symbol. Unknown ones are left out."""
    if "ids" in query:
        return [coin for coin in comma_list(query, "ids") if coin in COINS]
    for parameter, index in (("names", 1), ("symbols", 0)):
        if parameter in query:
            wanted = comma_list(query, parameter)
            return [coin for coin, names in COINS.items() if names[index].lower() in wanted]
    reject("Missing parameter ids")


def comma_list(query: Query, parameter: str) -> list[str]:
    """Return the items of a comma list."""
    if not query.get(parameter):
        reject(f"Missing parameter {parameter}")
    return [item.strip().lower() for item in query[parameter].split(",") if item.strip()]


def currency(query: Query) -> str:
    """Return the requested currency."""
    [first, *_] = comma_list(query, "vs_currency") or [""]
    if first not in COINGECKO_CURRENCIES:
        reject("invalid vs_currency")
    return first


def flag(query: Query, parameter: str) -> bool:
    """Return whether a parameter is `true`."""
    return query.get(parameter) == "true"


def integer(query: Query, parameter: str, default: int) -> int:
    """Return an integer."""
    text = query.get(parameter, "")
    return int(text) if text.isascii() and text.isdigit() else default


def precision(query: Query) -> int | None:
    """Return the requested number of decimals; None for CoinGecko's own choice."""
    text = query.get("precision")
    if text in (None, "full"):
        return MAX_PRECISION if text else None
    places = integer(query, "precision", MAX_PRECISION + 1)
    return places if places <= MAX_PRECISION else reject("Invalid precision")
