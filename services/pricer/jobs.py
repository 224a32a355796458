"""The pricer's loop: hear everything, price what changed, tell everyone."""

import asyncio
import logging
from contextlib import suppress
from decimal import Decimal

from services.bus_input import listen
from services.core import conversion
from services.core.errors import Unavailable
from services.core.model import Choice, Rate, State, Tick
from services.core.rates import Book, Limits
from services.log_throttle import Complaints
from services.ports import Deps
from services.pricer.pricing_engine import Pricing
from services.sequencing import Teller
from services.settings import Settings

LOOK_MS = 100  # between two looks at everything: what nothing touches grows old
log = logging.getLogger(__name__)


def limits(settings: Settings) -> Limits:
    """The settings' seconds as the milliseconds that rates are judged by."""
    return Limits(
        own=int(settings.fresh_seconds * 1000),
        reference=int(settings.reference_seconds * 1000),
        reference_price=int(settings.reference_price_seconds * 1000),
        steady=int(settings.steady_seconds * 1000),
        outlier=Decimal(str(settings.outlier_bps)),
    )


async def price(deps: Deps) -> None:
    """Price until cancelled. A bus or cache that is away is passed over: what matters is the newest."""
    settings = deps.settings
    table = conversion.table(settings.exchanges, settings.directions, settings.assets)
    book = Book(table, limits(settings), simulated=None)
    pricing, teller = Pricing(deps, book), Teller(deps)
    pricing.restore(await _kept_rates(deps), await _remembered(deps))
    _warn_of_pace(deps)
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(pricing))
        group.create_task(_tell(pricing, teller))
        group.create_task(_note(teller))
        group.create_task(_keep(pricing))


def _warn_of_pace(deps: Deps) -> None:
    """A price that is asked for more seldom than it stays fresh cannot be used most of the time."""
    limit = deps.settings.reference_price_seconds
    for exchange in deps.exchanges:
        if exchange.name == conversion.REFERENCE and not exchange.sockets and exchange.poll_seconds >= limit:
            log.warning(
                "%s is asked each %.0f s, but its own prices count as fresh for %.0f s: else they cannot be used; "
                "raise KURS_REFERENCE_PRICE_SECONDS, or lower KURS_COINGECKO_POLL_SECONDS",
                *(exchange.name, exchange.poll_seconds, limit),
            )


async def _hear(pricing: Pricing) -> None:
    async with listen(pricing.deps, Tick, State) as messages:
        async for message in messages:
            if isinstance(message, Tick | State):
                pricing.see(message)


async def _tell(pricing: Pricing, teller: Teller) -> None:
    clock, complaints, looked = pricing.deps.clock, Complaints(log), 0
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_MS / 1000):
                await pricing.some.wait()
        pricing.some.clear()
        if pricing.book.simulated is None:  # prices cannot be told from simulated ones before a collector has said
            continue
        everything = (now := clock.monotonic()) - looked >= LOOK_MS
        looked = now if everything else looked
        if news := pricing.news(everything):
            try:
                await teller.say(*news)
            except Unavailable as error:
                complaints.say("not told: %s", error)


async def _note(teller: Teller) -> None:
    """Have the journal know what is said, at once and to the end. Nobody who listens waits for it."""
    try:
        while True:
            await teller.behind.wait()
            await teller.keep()
    finally:
        await teller.keep()


async def _keep(pricing: Pricing) -> None:
    """Have the cache know the newest of everything, for processes that start. Nobody who listens waits for it."""
    complaints = Complaints(log)
    while True:
        await pricing.deps.clock.sleep(LOOK_MS / 1000)
        items, pricing.unkept = pricing.unkept, {}
        try:
            await pricing.deps.cache.put(*items.values())
        except Unavailable as error:
            pricing.unkept = items | pricing.unkept
            complaints.say("not told: %s", error)


async def _kept_rates(deps: Deps) -> list[Rate]:
    for source in (deps.cache, deps.store):
        try:
            if rates := await source.rates():
                return rates
        except Unavailable as error:
            log.warning("started without what was kept: %s", error)
    return []


async def _remembered(deps: Deps) -> Choice | None:
    try:
        return await deps.cache.choice()
    except Unavailable:
        return None
