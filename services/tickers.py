"""Tickers that clients want: prices of indices that are requested from an exchange only while a client wants them.

In the cache a ticker has two keys: that it is wanted, however many clients want it, and its last price. Both expire.
"""

from collections.abc import Iterable
from decimal import Decimal

import msgspec
from msgspec import Struct

from services.core.exchange import Exchange
from services.core.model import Instrument
from services.ports import Cache

WANTED_SECONDS = 900  # after the last client has wanted it
PRICE_SECONDS = 180  # for which a price is served


class TickerPrice(Struct, frozen=True, kw_only=True):
    """A price, and when it was requested, in ms since the epoch."""

    exchange: str
    instrument: Instrument
    price: Decimal
    time: int

    @property
    def ticker(self) -> str:
        """Its name."""
        return ticker_name(self.instrument)


class Tickers:
    """The tickers of the exchanges that have index prices. `instruments` are all that may be wanted, by exchange."""

    def __init__(self, cache: Cache, instruments: Iterable[tuple[Exchange, Iterable[Instrument]]]) -> None:
        self._cache = cache
        self.known = {
            ticker_name(instrument): (exchange, instrument)
            for exchange, group in instruments
            if exchange.index_price
            for instrument in group
            if not instrument.contract
        }

    async def want(self, ticker: str) -> None:
        """Want a ticker for the next 15 minutes. Raises Unavailable."""
        await self._cache.set(_wanted_key(ticker), b"1", WANTED_SECONDS)

    async def wanted(self) -> list[tuple[Exchange, Instrument]]:
        """Return what some client wants, each once. Raises Unavailable."""
        names = list(self.known)
        marks = await self._cache.get(*map(_wanted_key, names)) if names else []
        return [self.known[name] for name, mark in zip(names, marks, strict=True) if mark is not None]

    async def put(self, price: TickerPrice) -> None:
        """Cache a price. Raises Unavailable."""
        await self._cache.set(_price_key(price.ticker), msgspec.json.encode(price), PRICE_SECONDS)

    async def price(self, ticker: str) -> TickerPrice | None:
        """Return the last price. Raises Unavailable."""
        (body,) = await self._cache.get(_price_key(ticker))
        return None if body is None else msgspec.json.decode(body, type=TickerPrice)


def ticker_name(instrument: Instrument) -> str:
    """btc_usd."""
    return f"{instrument.base}_{instrument.quote}".lower()


def _wanted_key(ticker: str) -> str:
    return f"ticker:wanted:{ticker}"


def _price_key(ticker: str) -> str:
    return f"ticker:price:{ticker}"
