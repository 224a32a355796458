"""Queue of what one exchange's feed publishes, with back pressure while the bus is slow."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from services.core.publish_queue import Publishable, PublishQueue
from services.ports import Clock

CAPACITY_CHECK_SECONDS = 0.005
BUS_STALL_SECONDS = 0.5  # without a published batch, after which reading goes on: prices that are not read grow old
EMPTY_QUEUE_CHECK_SECONDS = 60.0


class OutgoingQueue:
    """A publish queue that its publisher can wait for, and that readers wait for while it is half full."""

    def __init__(self, conflate_ms: int, clock: Clock) -> None:
        self._queue, self._clock = PublishQueue(conflate_ms), clock
        self._changed = asyncio.Event()
        self._published_batches, self._bus_stalled = 0, False

    @property
    def half_full(self) -> bool:
        """Whether readers should wait."""
        return self._queue.half_full

    def put(self, *messages: Publishable) -> None:
        """Add messages."""
        self._queue.put(*messages)
        self._changed.set()

    def requeue(self, messages: Sequence[Publishable]) -> None:
        """Put messages back in front; of quotes newer ones stay."""
        self._queue.requeue(messages)
        self._changed.set()

    def take(self, size: int) -> list[Publishable]:
        """Take up to about `size` messages that may be published now."""
        return self._queue.take(self._clock.monotonic(), size)

    def on_published(self) -> None:
        """Note that the bus took a batch."""
        self._published_batches, self._bus_stalled = self._published_batches + 1, False

    async def wait_until_ready(self) -> None:
        """Wait until something may be published."""
        while (ms := self._queue.ms_until_ready(self._clock.monotonic())) != 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(EMPTY_QUEUE_CHECK_SECONDS if ms is None else ms / 1000):
                    await self._changed.wait()

    async def wait_for_capacity(self) -> None:
        """Wait while the queue is half full, unless the bus has taken nothing for `BUS_STALL_SECONDS`."""
        waited = 0.0
        while self.half_full and not self._bus_stalled:
            batches = self._published_batches
            await self._clock.sleep(CAPACITY_CHECK_SECONDS)
            waited = waited + CAPACITY_CHECK_SECONDS if self._published_batches == batches else 0.0
            self._bus_stalled = waited > BUS_STALL_SECONDS
