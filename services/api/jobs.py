"""What an API replica does beside answering: it listens, and starts from what was known last."""

import logging

from services.core.errors import Unavailable
from services.core.model import Choice, Rate, State
from services.ports import Deps

log = logging.getLogger(__name__)


async def listen(deps: Deps) -> None:
    """Keep this process's hub at the newest: first what cache or store remember, then the bus."""
    async with deps.bus.live(Rate, State, Choice) as messages:
        await _recall(deps)
        async for message in messages:
            deps.hub.put(message)


async def _recall(deps: Deps) -> None:
    """Last known rates carry their age with them, so that none can pass for fresh."""
    for source in (deps.store, deps.cache):
        try:
            for rate in await source.rates():
                deps.hub.put(rate)
        except Unavailable as error:
            log.warning("started without the last known rates: %s", error)
    try:
        for state in await deps.cache.states():
            deps.hub.put(state)
        if choice := await deps.cache.choice():
            deps.hub.put(choice)
    except Unavailable:
        return
