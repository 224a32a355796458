"""Waiting for a server that is not there: it may be starting beside us, or coming back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.core.backoff import delays
from services.core.errors import Misconfigured, Refused, Unavailable

REFUSALS = 3  # then it is no server that only just starts or ends
T = TypeVar("T")
log = logging.getLogger("kurs.startup")


async def until_up(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until `attempt` no longer raises Unavailable. The log has a line whenever the number of tries has doubled.

    Raises Misconfigured when it is refused several times in a row: waiting would not change that.
    """
    waits, tries, refusals = delays(limit=2), 0, 0
    while True:
        try:
            result = await attempt()
        except Unavailable as error:
            tries, refusals = tries + 1, refusals + 1 if isinstance(error, Refused) else 0
            if refusals == REFUSALS:
                raise Misconfigured(str(error)) from None
            if tries.bit_count() == 1:
                log.warning("%s; trying again until it does", error)
            await asyncio.sleep(next(waits))
        else:
            if tries:
                log.info("it answers after %d tries", tries + 1)
            return result
