"""The machine's clocks."""

import asyncio
import time

# It counts while the machine is suspended, so that values received before are old afterwards.
BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Wall time and monotonic time of the operating system."""

    def now(self) -> int:
        """Return milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> int:
        """Return milliseconds since some moment in the past; never set."""
        return time.clock_gettime_ns(BOOTTIME) // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Sleep that long."""
        await asyncio.sleep(seconds)
