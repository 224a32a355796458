"""Assets with their price levels, and listings with their steps and trade rates."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

from services.core.model import Instrument

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Asset(NamedTuple):
    """An asset's price in USD: from `first` (2017) along a trend to `last` (2026), or near `first` for ever."""

    first: float
    last: float | None = None  # None: it keeps to `first`
    volatility: float = 0.0  # per day; of an asset without a trend that of the drift about its peg
    supply: float = 0.0  # coins, for market caps


ASSETS = {
    "BTC": Asset(4300, 88_000, 0.024, 19.9e6),
    "ETH": Asset(300, 3100, 0.030, 120.7e6),
    "BNB": Asset(10, 880, 0.028, 137e6),
    "SOL": Asset(2, 140, 0.036, 560e6),
    "XRP": Asset(0.2, 2.2, 0.034, 60e9),
    "ADA": Asset(0.05, 0.45, 0.036, 36e9),
    "DOGE": Asset(0.01, 0.15, 0.040, 151e9),
    "LTC": Asset(45, 90, 0.032, 76e6),
    "TON": Asset(1, 1.6, 0.034, 2.5e9),
    "TRX": Asset(0.01, 0.28, 0.028, 94e9),
    "USDT": Asset(1, volatility=0.0003, supply=184e9),
    "USDC": Asset(1, volatility=0.0001, supply=75e9),
    "USD": Asset(1),
    "RUB": Asset(1 / 80, volatility=0.012),
    "EUR": Asset(1.16, volatility=0.01),
    "GBP": Asset(1.33, volatility=0.01),
    "CNY": Asset(0.14, volatility=0.004),
}


@dataclass(frozen=True)
class SimulatedListing:
    """One instrument at one exchange. Prices are whole ticks, sizes whole lots: no digit is ever lost."""

    exchange: str
    symbol: str
    instrument: Instrument
    tick: Decimal
    lot: Decimal
    size: float  # lots of a typical trade
    rate: float  # trades a second
    quote_ms: int  # about how often the best bid or ask changes by itself
    since: int = 17_395  # the day of the first trade, counted from 1970 (2017-08-17)

    @cached_property
    def tick_units(self) -> tuple[int, int]:
        """Return a tick in units of its last decimal, and its number of decimals."""
        return _scale(self.tick)

    @cached_property
    def lot_units(self) -> tuple[int, int]:
        """Return a lot in units of its last decimal, and its number of decimals."""
        return _scale(self.lot)

    def price(self, ticks: int) -> Decimal:
        """Return a price in the quote currency."""
        units, decimals = self.tick_units
        return Decimal(ticks * units).scaleb(-decimals)

    def amount(self, lots: int) -> Decimal:
        """Return a size in the base currency."""
        units, decimals = self.lot_units
        return Decimal(lots * units).scaleb(-decimals)

    def turnover(self, product: int) -> Decimal:
        """Return ticks times lots as an amount of the quote currency."""
        (tick, price_decimals), (lot, lot_decimals) = self.tick_units, self.lot_units
        return Decimal(product * tick * lot).scaleb(-price_decimals - lot_decimals)


def _scale(step: Decimal) -> tuple[int, int]:
    """Return 0.05 as (5, 2): units of the last decimal, and the number of decimals."""
    decimals = max(0, -int(step.as_tuple().exponent))
    return int(step.scaleb(decimals)), decimals


def _binance(rows: Iterable[str]) -> Iterable[SimulatedListing]:
    for row in rows:
        base, quote, tick, lot, size, rate, quote_ms = row.split()
        instrument = Instrument(base, quote)
        yield SimulatedListing(
            "binance", base + quote, instrument, Decimal(tick), Decimal(lot), float(size), float(rate), int(quote_ms)
        )


def _deribit(rows: Iterable[str]) -> Iterable[SimulatedListing]:
    for row in rows:
        symbol, name, tick, lot, size, rate, quote_ms = row.split()
        instrument = Instrument.parse(name)
        yield SimulatedListing(
            "deribit", symbol, instrument, Decimal(tick), Decimal(lot), float(size), float(rate), int(quote_ms)
        )


BINANCE = {
    listing.symbol: listing
    for listing in _binance(
        [
            # base quote tick lot size rate quote_ms
            "BTC USDT 0.01 0.00001 800 3.0 220",
            "ETH USDT 0.01 0.0001 1500 2.5 250",
            "USDC USDT 0.0001 1 900 0.25 2500",
            "BNB USDT 0.01 0.001 300 1.2 400",
            "SOL USDT 0.01 0.001 2500 1.5 350",
            "XRP USDT 0.0001 0.1 3000 1.2 400",
            "ADA USDT 0.0001 0.1 4000 0.6 700",
            "DOGE USDT 0.00001 1 1500 0.8 600",
            "LTC USDT 0.01 0.001 900 0.5 800",
            "TON USDT 0.001 0.01 3000 0.5 800",
            "TRX USDT 0.0001 0.1 5000 0.6 700",
            "BTC USDC 0.01 0.00001 500 1.0 400",
            "ETH USDC 0.01 0.0001 900 0.8 450",
            "ETH BTC 0.00001 0.001 120 0.5 700",
            "BNB BTC 0.000001 0.01 40 0.3 1200",
        ]
    )
}
# Gone since January 2024, and still answered by /ticker/price with the last number there was.
DELISTED = {
    "BTCRUB": (Instrument("BTC", "RUB"), "3900027.00000000"),
    "ETHRUB": (Instrument("ETH", "RUB"), "181477.60000000"),
    "XRPRUB": (Instrument("XRP", "RUB"), "56.31000000"),
    "BNBRUB": (Instrument("BNB", "RUB"), "22422.22000000"),
    "BUSDRUB": (Instrument("BUSD", "RUB"), "90.39000000"),
    "USDTRUB": (Instrument("USDT", "RUB"), "91.10000000"),
}
DERIBIT = {
    listing.symbol: listing
    for listing in _deribit(
        [
            # symbol instrument tick lot size rate quote_ms
            "BTC-PERPETUAL BTC-USD-PERPETUAL 0.5 10 60 0.8 250",
            "ETH-PERPETUAL ETH-USD-PERPETUAL 0.05 1 900 0.6 300",
            "BTC_USDC-PERPETUAL BTC-USDC-PERPETUAL 0.5 0.0001 80 0.3 600",
            "ETH_USDC-PERPETUAL ETH-USDC-PERPETUAL 0.05 0.001 120 0.3 600",
            "SOL_USDC-PERPETUAL SOL-USDC-PERPETUAL 0.01 0.1 60 0.25 800",
            "XRP_USDC-PERPETUAL XRP-USDC-PERPETUAL 0.0001 1 400 0.2 900",
            "BTC_USDC BTC-USDC 0.5 0.0001 60 0.2 800",
            "ETH_USDC ETH-USDC 0.05 0.001 90 0.2 800",
            "BTC_USDT BTC-USDT 0.5 0.0001 60 0.2 800",
            "ETH_USDT ETH-USDT 0.05 0.001 90 0.2 800",
        ]
    )
}
# Deribit's index names, with the decimals of each.
INDICES = {
    "btc_usd": 2,
    "eth_usd": 2,
    "ada_usdc": 4,
    "bnb_usdc": 2,
    "btc_usdc": 2,
    "doge_usdc": 5,
    "eth_usdc": 2,
    "ltc_usdc": 3,
    "sol_usdc": 4,
    "ton_usdc": 4,
    "trx_usdc": 5,
    "xrp_usdc": 4,
    "btc_usdt": 2,
    "eth_usdt": 2,
    "sol_usdt": 4,
    "usdc_usdt": 4,
    "eth_btc": 6,
}
COINS = {
    "bitcoin": ("BTC", "Bitcoin"),
    "ethereum": ("ETH", "Ethereum"),
    "tether": ("USDT", "Tether"),
    "usd-coin": ("USDC", "USDC"),
    "binancecoin": ("BNB", "BNB"),
    "solana": ("SOL", "Solana"),
    "ripple": ("XRP", "XRP"),
    "cardano": ("ADA", "Cardano"),
    "dogecoin": ("DOGE", "Dogecoin"),
    "litecoin": ("LTC", "Litecoin"),
    "the-open-network": ("TON", "Toncoin"),
    "tron": ("TRX", "TRON"),
}
COINGECKO_CURRENCIES = ("usd", "rub", "eur", "gbp", "cny", "btc", "eth", "bnb", "sol", "xrp", "ltc")
