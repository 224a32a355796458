"""The pricer's loop: hear everything, price what changed, tell everyone."""

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal
from functools import partial

from services.core import routes
from services.core.choice import chosen
from services.core.errors import Unavailable
from services.core.exchange import Limit
from services.core.model import Choice, Instrument, Message, Rate, State, Tick
from services.core.rates import Book, Limits
from services.core.window import Window
from services.ports import Deps
from services.settings import Settings

EVERYTHING_SECONDS = 1  # a rate that does not change is told again this often: its age does change
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
    states: dict[str, State] = {}
    book.recall(await _kept_rates(deps))
    async with asyncio.TaskGroup() as group:
        group.create_task(_hear(deps, book, states))
        group.create_task(_tell(deps, book, states))


async def _hear(deps: Deps, book: Book, states: dict[str, State]) -> None:
    async with deps.bus.live(Tick, State) as messages:
        async for message in messages:
            if isinstance(message, Tick | State):
                book.see(message)
            if isinstance(message, State):
                states[message.exchange] = message


async def _tell(deps: Deps, book: Book, states: dict[str, State]) -> None:
    asked, order = deps.settings.directions, deps.settings.exchanges
    choice = await _remembered(deps)
    told: dict[Instrument, Rate] = {}
    publish = partial(_publish, deps, Window(COMPLAINTS))
    while True:
        await deps.clock.sleep(max(deps.settings.conflate_ms, 10) / 1000)
        if book.simulated is None:  # prices cannot be told from simulated ones before a collector has said
            continue
        now = deps.clock.now()
        rates = {direction: book.rate(direction, now) for direction in asked}
        news = [rate for direction, rate in rates.items() if _worth_telling(told.get(direction), rate)]
        told |= {rate.direction: rate for rate in news}
        new = chosen(choice, {str(d): rate for d, rate in rates.items()}, asked, order, now)
        changed = choice is None or new.exchange != choice.exchange
        if changed:
            log.warning("in use: %s (%s)", new.exchange or "no exchange", new.reason)
        if choice is None or changed or now - choice.time >= EVERYTHING_SECONDS * 1000:
            choice = new
            await publish([*news, choice], [*news, choice, *states.values()])
            states.clear()
        elif news:
            await publish(news, news)


def _worth_telling(told: Rate | None, rate: Rate) -> bool:
    return told is None or told.offers != rate.offers or rate.time - told.time >= EVERYTHING_SECONDS * 1000


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
    deps: Deps, complaints: Window, told: Sequence[Message], kept: Sequence[Rate | State | Choice]
) -> None:
    results = await asyncio.gather(deps.bus.publish(*told), deps.cache.put(*kept), return_exceptions=True)
    for result in results:
        if isinstance(result, Unavailable):
            now = asyncio.get_running_loop().time()
            if not complaints.wait(now):
                complaints.note(now)
                log.warning("not told: %s", result)
        elif isinstance(result, BaseException):
            raise result
