"""The machine's clocks."""

import asyncio
import time

# It goes on while the machine is suspended, so that what was received before is old afterwards.
BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Wall time and monotonic time, as the operating system tells them."""

    def now(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> int:
        """Milliseconds since some moment in the past; never set."""
        return time.clock_gettime_ns(BOOTTIME) // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Let that time pass."""
        await asyncio.sleep(seconds)
