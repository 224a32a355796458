"""Waiting for a server that is not there: it may be starting beside us, or coming back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.core.backoff import delays
from services.core.errors import Unavailable

T = TypeVar("T")
log = logging.getLogger("kurs.startup")


async def until_up(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until `attempt` no longer raises Unavailable. The log has a line whenever the number of tries has doubled."""
    waits, tries = delays(limit=2), 0
    while True:
        try:
            result = await attempt()
        except Unavailable as error:
            tries += 1
            if tries.bit_count() == 1:
                log.warning("%s; trying again until it does", error)
            await asyncio.sleep(next(waits))
        else:
            if tries:
                log.info("it answers after %d tries", tries + 1)
            return result
