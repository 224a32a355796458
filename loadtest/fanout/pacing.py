"""When it is a sender's turn."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator


async def ticks_from_signal(per_second: float) -> AsyncIterator[None]:
    """So often a second from SIGUSR2 on; what comes late does not put off the next."""
    begun = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, begun.set)
    await begun.wait()
    turn = time.monotonic()
    while True:
        yield
        turn += 1 / per_second
        await asyncio.sleep(max(0, turn - time.monotonic()))
