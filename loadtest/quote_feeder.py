"""Publishes new rates of all directions ten times a second over RabbitMQ, as the pricer does.

python -m loadtest.quote_feeder amqp://…
"""

import asyncio
import sys
from decimal import Decimal
from random import Random

from services.adapters import rabbit
from services.adapters.clock import SystemClock
from services.core.markets import SIMULATED
from services.core.model import Instrument, Quote
from services.core.rates import RateCalculator, Thresholds
from services.core.selection import ExchangeOrder, update_active
from services.exchanges import REFERENCES, configured_exchanges, route_table
from services.settings import Settings

PUBLISH_SECONDS = 0.1
BINANCE = {"BTC-USDT": Decimal("97614.93"), "ETH-USDT": Decimal("3290.28"), "USDC-USDT": Decimal("1.0001")}
COINGECKO = {"BTC": Decimal("97600.12"), "ETH": Decimal("3290.5"), "USDT": Decimal("0.9998"), "USDC": Decimal("0.9999")}
STEP = Decimal("0.0001")


def quotes_at(now: int, random: Random) -> list[Quote]:
    """Return quotes of two exchanges."""
    quotes = []
    for name, price in BINANCE.items():
        bid = (price * (1 + STEP * random.randint(-9, 9) / 10)).quantize(Decimal("1e-8"))
        quotes.append(Quote("binance", Instrument.parse(name), now, bid=bid, ask=bid + Decimal("1e-5")))
    for base, price in COINGECKO.items():
        quotes.append(Quote("coingecko", Instrument(base, "USD"), now, price=price))
        quotes.append(Quote("coingecko", Instrument(base, "RUB"), now, price=price * 80))
    return quotes


async def publish_quotes(url: str) -> None:
    """Publish until cancelled."""
    settings, clock, random = Settings(_env_file=None), SystemClock(), Random(1)
    bus = await rabbit.connect(url, market=SIMULATED)  # as `tests.system.kurs_process` runs the API
    calculator = RateCalculator(configured_exchanges(settings), route_table(settings), Thresholds())
    active = None
    while True:
        now = clock.now()
        for quote in quotes_at(now, random):
            calculator.apply(quote)
        rates = {str(direction): calculator.rate(direction, now) for direction in settings.directions}
        active = update_active(active, rates, settings.directions, ExchangeOrder(settings.exchanges, REFERENCES), now)
        await bus.publish(*rates.values(), active)
        await clock.sleep(PUBLISH_SECONDS)


if __name__ == "__main__":
    asyncio.run(publish_quotes(sys.argv[1]))
