"""Retries until a server is available: it may be starting or restarting."""

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.core.backoff import delays
from services.core.errors import AccessRefused, Misconfigured, Unavailable

UNREACHABLE_ERRNOS = (errno.ENETUNREACH, errno.EHOSTUNREACH)
CONTAINER_HINT = "containers need docker-compose.servers.yml for a server outside"
MAX_REFUSALS = 3  # in a row; a server that starts or stops refuses less often
T = TypeVar("T")
log = logging.getLogger("kurs.startup")


async def retry_until_available(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until `attempt` no longer raises Unavailable. The log has a line whenever the number of tries has doubled.

    Raises Misconfigured when it is refused several times in a row: waiting would not change that.
    """
    waits, tries, refusals = delays(limit=2), 0, 0
    while True:
        try:
            result = await attempt()
        except Unavailable as error:
            tries, refusals = tries + 1, refusals + 1 if isinstance(error, AccessRefused) else 0
            if refusals == MAX_REFUSALS:
                raise Misconfigured(str(error)) from None
            if tries.bit_count() == 1:
                log.warning("%s; trying again until it does%s", error, _hint(error))
            await asyncio.sleep(next(waits))
        else:
            if tries:
                log.info("it answers after %d tries", tries + 1)
            return result


def _hint(error: BaseException) -> str:
    """What to look at when no connection is made because of where this process is; "" for everything else."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, socket.gaierror):
            return f". Its name is not known here: correct the URL; {CONTAINER_HINT}"
        if isinstance(cause, TimeoutError) or (isinstance(cause, OSError) and cause.errno in UNREACHABLE_ERRNOS):
            return f". Where no network leads there, correct the URL; {CONTAINER_HINT}"
        cause = cause.__cause__ or cause.__context__
    return ""
