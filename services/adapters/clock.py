"""The machine's clock."""

import asyncio
import time


class SystemClock:
    """Wall time, as the operating system tells it."""

    def now(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Let that time pass."""
        await asyncio.sleep(seconds)
