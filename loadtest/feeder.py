"""Keeps rates moving: ten times a second all directions change, and go over RabbitMQ as the pricer's do.

python -m loadtest.feeder amqp://…
"""

import asyncio
import sys
from decimal import Decimal
from random import Random

from services.adapters import rabbit
from services.adapters.clock import SystemClock
from services.core import conversion
from services.core.markets import SIMULATED
from services.core.model import Instrument, Tick
from services.core.rates import Book, Limits
from services.core.selection import chosen
from services.settings import Settings

SECONDS = 0.1
BINANCE = {"BTC-USDT": Decimal("97614.93"), "ETH-USDT": Decimal("3290.28"), "USDC-USDT": Decimal("1.0001")}
COINGECKO = {"BTC": Decimal("97600.12"), "ETH": Decimal("3290.5"), "USDT": Decimal("0.9998"), "USDC": Decimal("0.9999")}
STEP = Decimal("0.0001")


def ticks(now: int, random: Random) -> list[Tick]:
    """What two exchanges say at one moment."""
    quotes = []
    for name, price in BINANCE.items():
        bid = (price * (1 + STEP * random.randint(-9, 9) / 10)).quantize(Decimal("1e-8"))
        quotes.append(Tick("binance", Instrument.parse(name), now, bid=bid, ask=bid + Decimal("1e-5")))
    for base, price in COINGECKO.items():
        quotes.append(Tick("coingecko", Instrument(base, "USD"), now, price=price))
        quotes.append(Tick("coingecko", Instrument(base, "RUB"), now, price=price * 80))
    return quotes


async def feed(url: str) -> None:
    """Publish until cancelled."""
    settings, clock, random = Settings(_env_file=None), SystemClock(), Random(1)
    bus = await rabbit.connect(url, market=SIMULATED)  # as `tests.system.kurs` runs the API
    book = Book(conversion.table(settings.exchanges, settings.directions, settings.assets), Limits())
    choice = None
    while True:
        now = clock.now()
        for tick in ticks(now, random):
            book.see(tick)
        rates = {str(direction): book.rate(direction, now) for direction in settings.directions}
        choice = chosen(choice, rates, settings.directions, settings.exchanges, now)
        await bus.publish(*rates.values(), choice)
        await clock.sleep(SECONDS)


if __name__ == "__main__":
    asyncio.run(feed(sys.argv[1]))
