"""The jobs of a replica: it consumes rates and statuses, beginning with the last saved ones."""

import logging
from contextlib import suppress

from services import bus_input
from services.api.current_selection import select_current
from services.core.errors import NothingFresh, Unavailable
from services.core.model import ActiveExchange, ExchangeStatus, Rate
from services.ports import Deps

DEAD_LETTER_POLL_SECONDS = 10
FRESHNESS_POLL_SECONDS = 1
STALE_POLLS_BEFORE_WARNING = 30
log = logging.getLogger(__name__)


async def consume_rates(deps: Deps) -> None:
    """Apply rates, statuses and the active exchange to the hub, first those in cache and store."""
    async with bus_input.subscribe(deps, Rate, ExchangeStatus, ActiveExchange) as messages:
        await _restore(deps)
        async for message in messages:
            deps.hub.apply(message)


async def count_dead_letters(deps: Deps) -> None:
    """Update the hub's number of dead letters."""
    while True:
        with suppress(Unavailable):  # the last number stays
            deps.hub.dead_letters = await deps.store.count_dead_letters()
        await deps.clock.sleep(DEAD_LETTER_POLL_SECONDS)


async def report_freshness(deps: Deps) -> None:
    """Log when there are fresh rates, with their address, and when there are none for a while."""
    url, fresh, looks = deps.settings.public_url, False, 0
    while True:
        try:
            require_fresh_rates(deps)
            if not fresh:
                log.info("rates are fresh: %s/v1/courses", url)
            fresh, looks = True, 0
        except NothingFresh as nothing:
            looks += 1
            if looks == STALE_POLLS_BEFORE_WARNING:
                log.warning("no rate is fresh: %s; see %s/v1/exchanges", nothing, url)
                fresh = False
        await deps.clock.sleep(FRESHNESS_POLL_SECONDS)


def require_fresh_rates(deps: Deps) -> None:
    """Raises NothingFresh while no exchange is fresh enough to use."""
    settings = deps.settings
    select_current(deps.hub, settings.directions, settings.exchanges, deps.clock.monotonic(), partial=True)


async def _restore(deps: Deps) -> None:
    """Restore the last known rates. They have their ages, so old ones are not fresh. The cache's are newer."""
    for source in (deps.cache, deps.store):
        try:
            deps.hub.restore(await source.rates())
        except Unavailable as error:
            log.warning("started without the last known rates: %s", error)
    try:
        deps.hub.restore(await deps.cache.exchange_statuses())
        if active := await deps.cache.active_exchange():
            deps.hub.restore([active])
    except Unavailable:
        return
