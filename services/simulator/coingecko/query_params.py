"""CoinGecko's query parameters."""

from collections.abc import Mapping
from typing import NoReturn

from services.core.model import Instrument
from services.simulator.market.listings import COINS, CURRENCIES
from services.simulator.rest_server import Wrong

Query = Mapping[str, str]
FULL = 18  # decimals


def refuse(text: str) -> NoReturn:
    """Answer with an error."""
    raise Wrong(422, {"error": text})


def about(coin: str, currency: str) -> Instrument:
    """The pair that a price is of."""
    return Instrument(COINS[coin][0], currency.upper())


def coins(query: Query) -> list[str]:
    """The coins asked for by id, name or symbol. What is not known is left out."""
    if "ids" in query:
        return [coin for coin in words(query, "ids") if coin in COINS]
    for parameter, place in (("names", 1), ("symbols", 0)):
        if parameter in query:
            wanted = words(query, parameter)
            return [coin for coin, known in COINS.items() if known[place].lower() in wanted]
    refuse("Missing parameter ids")


def words(query: Query, parameter: str) -> list[str]:
    """A comma list."""
    if not query.get(parameter):
        refuse(f"Missing parameter {parameter}")
    return [word.strip().lower() for word in query[parameter].split(",") if word.strip()]


def currency(query: Query) -> str:
    """The one currency asked for."""
    [first, *_] = words(query, "vs_currency") or [""]
    if first not in CURRENCIES:
        refuse("invalid vs_currency")
    return first


def flag(query: Query, parameter: str) -> bool:
    """Whether it is wanted."""
    return query.get(parameter) == "true"


def whole(query: Query, parameter: str, default: int) -> int:
    """A whole number."""
    text = query.get(parameter, "")
    return int(text) if text.isascii() and text.isdigit() else default


def precision(query: Query) -> int | None:
    """Decimals; None: as CoinGecko thinks fit."""
    text = query.get("precision")
    if text in (None, "full"):
        return FULL if text else None
    places = whole(query, "precision", FULL + 1)
    return places if places <= FULL else refuse("Invalid precision")
