"""Waiting for a condition, never for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

Condition = Callable[[], object | Awaitable[object]]


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = 60, *, details: Callable[[], object] = str
) -> float:
    """Block until `condition` holds, and return the seconds that took. Fails after `seconds`, with `details()`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"no {what} within {seconds} s: {details()}"
        time.sleep(0.1)
    return time.monotonic() - start


async def eventually(condition: Condition, seconds: float = 60) -> float:
    """Wait until `condition`, which may be a coroutine function, holds, and return the seconds that took."""
    start = time.monotonic()
    while True:
        holds = condition()
        if inspect.isawaitable(holds):
            holds = await holds
        if holds:
            return time.monotonic() - start
        assert time.monotonic() - start < seconds, f"not so within {seconds} s"
        await asyncio.sleep(0.02)
