"""Messages as the writer, the pricer and a collector publish them."""

from decimal import Decimal

from services.adapters.clock import SystemClock
from services.core.model import Bar, Candle, CandleSource, ExchangeStatus, Instrument, Leg, Rate, RateCandidate, Series
from services.core.timeframes import MINUTE_MS

PAIR = Instrument("BTC", "USDT")
SERIES = Series("binance", PAIR, "1m")
START = 1_795_392_000_000
BTC, ETH = Instrument("BTC", "USD"), Instrument("ETH", "USD")


def candle(minute: int, close: int, closed: bool = False, revision: int = 0, series: Series = SERIES) -> Candle:
    price = Decimal(close)
    bar = Bar(START + minute * MINUTE_MS, price, price + 1, price - 1, price, Decimal(1), price, 3)
    return Candle(series, bar, closed, CandleSource.EXCHANGE if closed else CandleSource.TRADES, revision)


def rate(direction: Instrument, value: str) -> Rate:
    now = SystemClock().now()
    leg = Leg("binance", direction, Decimal(value), now, now, now + 5_000, own=True)
    return Rate(direction, now, (RateCandidate("binance", (leg,), Decimal(value)),))


def exchange_status(connected: bool, reason: str) -> ExchangeStatus:
    now = SystemClock().now()
    return ExchangeStatus(
        "binance", now, connected, "socket" if connected else "none", "host", reason, START, now, 0, False
    )
