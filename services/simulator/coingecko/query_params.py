"""CoinGecko's query parameters."""

from collections.abc import Mapping
from typing import NoReturn

from services.core.model import Instrument
from services.simulator.market.listings import COINS, CURRENCIES
from services.simulator.rest_server import ApiError

Query = Mapping[str, str]
MAX_DECIMALS = 18  # decimals


def reject(text: str) -> NoReturn:
    """Answer with an error."""
    raise ApiError(422, {"error": text})


def pair(coin: str, currency: str) -> Instrument:
    """The pair that a price is of."""
    return Instrument(COINS[coin][0], currency.upper())


def coins(query: Query) -> list[str]:
    """The coins asked for by id, name or symbol. What is not known is left out."""
    if "ids" in query:
        return [coin for coin in comma_list(query, "ids") if coin in COINS]
    for parameter, place in (("names", 1), ("symbols", 0)):
        if parameter in query:
            wanted = comma_list(query, parameter)
            return [coin for coin, known in COINS.items() if known[place].lower() in wanted]
    reject("Missing parameter ids")


def comma_list(query: Query, parameter: str) -> list[str]:
    """A comma list."""
    if not query.get(parameter):
        reject(f"Missing parameter {parameter}")
    return [word.strip().lower() for word in query[parameter].split(",") if word.strip()]


def currency(query: Query) -> str:
    """The one currency asked for."""
    [first, *_] = comma_list(query, "vs_currency") or [""]
    if first not in CURRENCIES:
        reject("invalid vs_currency")
    return first


def flag(query: Query, parameter: str) -> bool:
    """Whether it is wanted."""
    return query.get(parameter) == "true"


def integer(query: Query, parameter: str, default: int) -> int:
    """A whole number."""
    text = query.get(parameter, "")
    return int(text) if text.isascii() and text.isdigit() else default


def precision(query: Query) -> int | None:
    """Decimals; None: as CoinGecko thinks fit."""
    text = query.get("precision")
    if text in (None, "full"):
        return MAX_DECIMALS if text else None
    places = integer(query, "precision", MAX_DECIMALS + 1)
    return places if places <= MAX_DECIMALS else reject("Invalid precision")
