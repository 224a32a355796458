"""Retries until a server is available: it may be starting or restarting."""

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.core.backoff import delays
from services.core.errors import AccessRefused, Misconfigured, Unavailable
from services.log_throttle import ThrottledLog

UNREACHABLE_ERRNOS = (errno.ENETUNREACH, errno.EHOSTUNREACH)
CONTAINER_HINT = "containers need docker-compose.servers.yml for a server outside"
MAX_REFUSALS = 3  # in a row; a server that starts or stops refuses less often
MAX_DELAY_SECONDS = 2
T = TypeVar("T")
log = logging.getLogger(__name__)


async def retry_until_available(attempt: Callable[[], Awaitable[T]]) -> T:
    """Call `attempt` until it no longer raises Unavailable, and return its result.

    Raises Misconfigured when it is refused several times in a row, because waiting does not help.
    """
    waits, attempts, refusals = delays(limit=MAX_DELAY_SECONDS), 1, 0
    throttled_log = ThrottledLog(log)
    while True:
        try:
            result = await attempt()
        except Unavailable as error:
            refusals = refusals + 1 if isinstance(error, AccessRefused) else 0
            if refusals == MAX_REFUSALS:
                raise Misconfigured(str(error)) from None
            throttled_log.warning("%s; retrying%s", error, _hint(error))
            attempts += 1
            await asyncio.sleep(next(waits))
        else:
            if attempts > 1:
                log.info("available after %d attempts", attempts)
            return result


def _hint(error: BaseException) -> str:
    """Return what to check when the network is the cause of an error; "" for every other error."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, socket.gaierror):
            return f". The host name is not known here: correct the URL; {CONTAINER_HINT}"
        if isinstance(cause, TimeoutError) or (isinstance(cause, OSError) and cause.errno in UNREACHABLE_ERRNOS):
            return f". If no network leads to the host, correct the URL; {CONTAINER_HINT}"
        cause = cause.__cause__ or cause.__context__
    return ""
