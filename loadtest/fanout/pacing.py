"""The pace of a sender."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator


async def ticks_from_signal(per_second: float) -> AsyncIterator[None]:
    """Yield `per_second` times a second from SIGUSR2 on. A late turn does not delay the next ones."""
    started = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, started.set)
    await started.wait()
    turn = time.monotonic()
    while True:
        yield
        turn += 1 / per_second
        await asyncio.sleep(max(0, turn - time.monotonic()))
