"""The pricer's loop: hear everything, price what changed, tell everyone."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial

from services.core import routes
from services.core.errors import Unavailable
from services.core.exchange import Limit
from services.core.model import Choice, Message, Rate, State, Tick
from services.core.rates import Book, Limits
from services.core.window import Window
from services.ports import Deps
from services.pricer.pricing import Pricing
from services.settings import Settings
from services.telling import Teller

LOOK_MS = 100  # between two looks at everything: what nothing touches grows old
BREATH = 0.001  # seconds in which what comes together is priced together
COMPLAINTS = Limit(2, 60)  # lines of the log on a bus or cache that is away
log = logging.getLogger(__name__)


def limits(settings: Settings) -> Limits:
    """The settings' seconds as the milliseconds that rates are judged by."""
    seconds = settings.fresh_seconds, settings.reference_seconds, settings.steady_seconds
    own, reference, steady = (int(s * 1000) for s in seconds)
    return Limits(own, reference, steady, Decimal(str(settings.outlier_bps)))


async def price(deps: Deps) -> None:
    """Price until cancelled. A bus or cache that is away is passed over: what matters is the newest."""
    settings = deps.settings
    table = routes.table(settings.exchanges, settings.directions, settings.assets)
    book = Book(table, limits(settings), simulated=None)
    book.recall(await _kept_rates(deps))
    pricing = Pricing(deps, book, await _remembered(deps))
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(pricing))
        group.create_task(_tell(pricing))


async def _hear(pricing: Pricing) -> None:
    async with pricing.deps.bus.live(Tick, State) as messages:
        async for message in messages:
            if isinstance(message, Tick | State):
                pricing.see(message)


async def _tell(pricing: Pricing) -> None:
    clock, teller = pricing.deps.clock, Teller(pricing.deps)
    publish, looked = partial(_publish, pricing.deps, teller, Window(COMPLAINTS)), 0
    while True:
        await asyncio.sleep(BREATH)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_MS / 1000):
                await pricing.some.wait()
        pricing.some.clear()
        if pricing.book.simulated is None:  # prices cannot be told from simulated ones before a collector has said
            continue
        everything = (now := clock.now()) - looked >= LOOK_MS
        looked = now if everything else looked
        if news := pricing.news(now, everything):
            states = list(pricing.states.values()) if any(isinstance(each, Choice) for each in news) else []
            await publish(news, [*news, *states])


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


async def _publish(
    deps: Deps, teller: Teller, complaints: Window, told: Sequence[Message], kept: Sequence[Rate | State | Choice]
) -> None:
    results = await asyncio.gather(teller.tell(*told), deps.cache.put(*kept), return_exceptions=True)
    for result in results:
        if isinstance(result, Unavailable):
            now = asyncio.get_running_loop().time()
            if not complaints.wait(now):
                complaints.note(now)
                log.warning("not told: %s", result)
        elif isinstance(result, BaseException):
            raise result
