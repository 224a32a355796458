"""How each exchange can give each direction: a route of legs whose product is the rate.

An exchange gives the asset in its own anchor currency; what lies between the anchor and the asked currency is a fiat
or peg leg of the reference. RUB has not traded at Binance since January 2024 (its price endpoint still answers with
the last prices of then), so no route takes it from there.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from services.core.model import Instrument

REFERENCE = "coingecko"
FIAT = frozenset(
    {
        "USD",
        "RUB",
        "EUR",
        "GBP",
        "CHF",
        "JPY",
        "CNY",
        "TRY",
        "UAH",
        "KZT",
        "AED",
        "ARS",
        "AUD",
        "BRL",
        "CAD",
        "CZK",
        "DKK",
        "GEL",
        "HKD",
        "HUF",
        "IDR",
        "ILS",
        "INR",
        "KRW",
        "MXN",
        "NOK",
        "NZD",
        "PHP",
        "PLN",
        "SAR",
        "SEK",
        "SGD",
        "THB",
        "TWD",
        "VND",
        "ZAR",
    }
)
STABLECOINS = frozenset(
    {"USDT", "USDC", "DAI"}
)  # to the dollar: such a coin's price in a currency is what that is worth
DERIBIT_DOLLAR_INDICES = frozenset({"BTC", "ETH"})


class ConversionLeg(NamedTuple):
    """A leg to be taken: multiply by the instrument's value, or divide by it."""

    exchange: str
    instrument: Instrument
    inverted: bool = False


ConversionRoute = tuple[ConversionLeg, ...]


def find_route(exchange: str, direction: Instrument, assets: Mapping[str, str]) -> ConversionRoute | None:
    """The legs from one unit of the direction's base to its quote at an exchange; None when it has no way.

    `assets` maps names such as USDTTRC to the asset they stand for.
    """
    base, quote = (assets.get(name, name) for name in direction[:2])
    if base == quote:
        return None
    return ROUTES[exchange](base, quote)


def _binance_route(base: str, quote: str) -> ConversionRoute | None:
    if quote not in FIAT:
        return (ConversionLeg("binance", Instrument(base, quote)),)
    if base in FIAT:
        return None
    if base == "USDT":
        return ConversionLeg("binance", Instrument("USDC", "USDT"), inverted=True), *via_reference("USDC", quote)
    return ConversionLeg("binance", Instrument(base, "USDT")), *via_reference("USDT", quote)


def _deribit_route(base: str, quote: str) -> ConversionRoute | None:
    if base in FIAT:
        return None
    own, anchor = _deribit_index(base)
    if quote in FIAT or quote == anchor:
        return *own, *via_reference(anchor, quote)
    other, other_anchor = _deribit_index(quote)
    back = tuple(hop._replace(inverted=not hop.inverted) for hop in other)
    return (*own, *back) if anchor == other_anchor else None


def _deribit_index(asset: str) -> tuple[ConversionRoute, str]:
    """An asset's index and the currency it is in. Deribit has no USDT in USD, only USDC in USDT."""
    if asset in DERIBIT_DOLLAR_INDICES:
        return (ConversionLeg("deribit", Instrument(asset, "USD")),), "USD"
    if asset == "USDT":
        return (ConversionLeg("deribit", Instrument("USDC", "USDT"), inverted=True),), "USDC"
    return (ConversionLeg("deribit", Instrument(asset, "USDC")),), "USDC"


def _coingecko_route(base: str, quote: str) -> ConversionRoute | None:
    if base in FIAT:
        return None
    if quote in FIAT:
        return (ConversionLeg(REFERENCE, Instrument(base, quote)),)
    return ConversionLeg(REFERENCE, Instrument(base, "USD")), ConversionLeg(
        REFERENCE, Instrument(quote, "USD"), inverted=True
    )


def via_reference(anchor: str, quote: str) -> ConversionRoute:
    """From an anchor currency to fiat, by the reference. Its fiat rates are a coin's price in two currencies."""
    if anchor == quote:
        return ()
    if anchor in FIAT:
        return ConversionLeg(REFERENCE, Instrument("USDT", anchor), inverted=True), ConversionLeg(
            REFERENCE, Instrument("USDT", quote)
        )
    return (ConversionLeg(REFERENCE, Instrument(anchor, quote)),)


CONTRACTS = "deribit"  # the exchange whose futures and perpetuals are collected; of the others it is the spot market
ROUTES = {"binance": _binance_route, "deribit": _deribit_route, REFERENCE: _coingecko_route}


def route_table(
    exchanges: Iterable[str], directions: Iterable[Instrument], assets: Mapping[str, str]
) -> dict[Instrument, dict[str, ConversionRoute]]:
    """All routes: direction → exchange (in the order given) → legs. A leg's exchange must be among `exchanges`."""
    names = tuple(exchanges)
    found = {d: {name: find_route(name, d, assets) for name in names} for d in directions}
    return {
        direction: {name: legs for name, legs in routes.items() if legs and all(hop.exchange in names for hop in legs)}
        for direction, routes in found.items()
    }


def instruments_to_collect(
    exchange: str, directions: Iterable[Instrument], assets: Mapping[str, str], symbols: Iterable[Instrument]
) -> tuple[Instrument, ...]:
    """The instruments to collect at an exchange: what any route needs of it, and the configured symbols it may have."""
    hops = (
        hop for routes in route_table(ROUTES, directions, assets).values() for legs in routes.values() for hop in legs
    )
    needed = {hop.instrument for hop in hops if hop.exchange == exchange}
    if exchange == "binance":
        needed.update(symbol for symbol in symbols if not symbol.contract)
    if exchange == CONTRACTS:
        needed.update(Instrument(s.base, "USD", "PERPETUAL") for s in symbols if s.base in DERIBIT_DOLLAR_INDICES)
        needed.update(symbol for symbol in symbols if symbol.contract)
    return tuple(sorted(needed))
