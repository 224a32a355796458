"""Current values at an interval, instead of each change."""

import asyncio

from services.api.streams.output import MAX_BUFFERED_BYTES, ClientOutput


class IntervalTimers:
    """A task for each interval that a client's subscriptions have."""

    __slots__ = ("_output", "_tasks")

    def __init__(self, output: ClientOutput) -> None:
        self._output = output
        self._tasks: dict[float, asyncio.Task[None]] = {}  # by seconds

    def start(self, interval: float) -> None:
        """Send at an interval in seconds from now on."""
        if interval not in self._tasks:
            self._tasks[interval] = asyncio.create_task(self._run(interval))

    def stop_unused(self) -> None:
        """End the intervals that no subscription has any more."""
        if self._tasks:
            used = {subscription.interval for subscription in self._output.all_subscriptions}
            for interval in self._tasks.keys() - used:
                self._tasks.pop(interval).cancel()

    async def _run(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self._output.drained(MAX_BUFFERED_BYTES)
            for subscription in self._output.all_subscriptions:
                if subscription.interval == interval:
                    self._output.send_current(subscription)
