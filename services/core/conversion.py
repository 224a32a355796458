"""Conversion routes: the legs whose product is a direction's rate at an exchange.

An exchange has a price of the asset in one of its own currencies (`Exchange.route`). The rest of the way, from that
currency to the direction's quote, is a price of the reference.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from services.core.exchange import Exchange, Instruments, OwnLeg
from services.core.model import Instrument

_FIAT = (
    "USD RUB EUR GBP CHF JPY CNY TRY UAH KZT AED ARS AUD BRL CAD CZK DKK GEL HKD HUF IDR ILS INR KRW MXN NOK NZD PHP "
    "PLN SAR SEK SGD THB TWD VND ZAR"
)
FIAT = frozenset(_FIAT.split())
STABLECOINS = frozenset({"USDT", "USDC", "DAI"})  # pegged to the dollar: their prices are what a currency is worth
FX_COIN = "USDT"  # its prices in two currencies give the rate between them


class ConversionLeg(NamedTuple):
    """A leg of a route: multiply by the instrument's value at the exchange, or divide by it."""

    exchange: str
    instrument: Instrument
    inverted: bool = False


ConversionRoute = tuple[ConversionLeg, ...]


def find_route(
    exchange: Exchange, reference: Exchange | None, direction: Instrument, assets: Mapping[str, str]
) -> ConversionRoute | None:
    """Return the legs from the direction's base to its quote at an exchange, or None when there is no route.

    `assets` maps names such as USDTTRC to the asset that they stand for. Without a reference there are only the routes
    that need none.
    """
    base, quote = (assets.get(name, name) for name in direction[:2])
    own = None if base == quote else exchange.route(base, quote)
    if own is None:
        return None
    rest = _reference_legs(reference, own.currency, quote)
    return None if rest is None else _legs_at(exchange, own.legs) + rest


def _reference_legs(reference: Exchange | None, currency: str, quote: str) -> ConversionRoute | None:
    """From the currency that an exchange has a price in to the direction's quote."""
    if currency == quote:
        return ()
    if reference is None:
        return None
    coin = FX_COIN if currency in FIAT else currency
    to_quote = reference.route(coin, quote)
    if to_quote is None:
        return None
    legs = _legs_at(reference, to_quote.legs)
    if coin == currency:
        return legs
    to_currency = reference.route(coin, currency)
    return None if to_currency is None else _legs_at(reference, inverse(to_currency.legs)) + legs


def _legs_at(exchange: Exchange, legs: Iterable[OwnLeg]) -> ConversionRoute:
    return tuple(ConversionLeg(exchange.name, *leg) for leg in legs)


def inverse(legs: Sequence[OwnLeg]) -> tuple[OwnLeg, ...]:
    """Return the legs of the way back."""
    return tuple(leg._replace(inverted=not leg.inverted) for leg in reversed(legs))


def route_table(
    exchanges: Iterable[Exchange], directions: Iterable[Instrument], assets: Mapping[str, str]
) -> dict[Instrument, dict[str, ConversionRoute]]:
    """Return all routes: direction → exchange, in the order given → legs."""
    exchanges = tuple(exchanges)
    reference = next((exchange for exchange in exchanges if exchange.is_reference), None)
    return {
        direction: {
            exchange.name: legs
            for exchange in exchanges
            if (legs := find_route(exchange, reference, direction, assets)) is not None
        }
        for direction in directions
    }


def instruments_to_collect(
    exchange: Exchange,
    exchanges: Iterable[Exchange],
    directions: Iterable[Instrument],
    assets: Mapping[str, str],
    symbols: Instruments,
) -> tuple[Instrument, ...]:
    """Return what any route needs of an exchange, and what it collects of the configured symbols, in order."""
    routes = (
        legs for by_exchange in route_table(exchanges, directions, assets).values() for legs in by_exchange.values()
    )
    needed = {leg.instrument for legs in routes for leg in legs if leg.exchange == exchange.name}
    if exchange.instruments:
        needed.update(exchange.instruments(symbols))
    return tuple(sorted(needed))
