"""Clocks for tests: one that a test sets, and one that runs faster than the machine's."""

import asyncio
import time


class ManualClock:
    """A clock whose time, in ms, a test sets.

    A sleep ends within 10 ms and leaves the time as it is. With `advances` it lets that time pass at once.
    """

    def __init__(self, start: int, *, advances: bool = False) -> None:
        self.time, self._advances = start, advances

    def now(self) -> int:
        return self.time

    def monotonic(self) -> int:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        if self._advances:
            self.time += round(seconds * 1000)
        else:
            await asyncio.sleep(min(seconds, 0.01))


class FastClock:
    """A clock that starts at `start`, in ms, and runs `speed` times as fast as the machine's."""

    def __init__(self, start: int, speed: float) -> None:
        self._start, self._speed, self._began = start, speed, time.monotonic()

    def now(self) -> int:
        return self._start + round((time.monotonic() - self._began) * 1000 * self._speed)

    def monotonic(self) -> int:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)
