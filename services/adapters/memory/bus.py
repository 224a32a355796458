"""The bus within one process."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

from services.adapters.drop_oldest import DropOldestQueue
from services.core.dead_letters import DeadLetter, DeadLetterCause, from_message
from services.core.model import Message
from services.leases import Lease
from services.ports import MAX_DELIVERIES, QUEUES, Kinds

MAX_DEAD_MESSAGES = 1_000  # that wait for `take_dead_letters`; the oldest are dropped


class _Delivery(NamedTuple):
    message: Message
    attempts: int  # deliveries to a worker that were requeued


class _WorkQueue:
    """One work queue. `put` waits while it is full; requeued messages are delivered first."""

    def __init__(self, limit: int, max_deliveries: int) -> None:
        self.limit, self.max_deliveries = limit, max_deliveries
        self.waiting: deque[_Delivery] = deque()
        self.dead: deque[Message] = deque(maxlen=MAX_DEAD_MESSAGES)
        self.unacked = 0
        self.not_empty, self.not_full = asyncio.Event(), asyncio.Event()

    async def put(self, message: Message) -> None:
        while len(self.waiting) >= self.limit:
            self.not_full.clear()
            await self.not_full.wait()
        self.waiting.append(_Delivery(message, 0))
        self.not_empty.set()

    async def take(self, size: int) -> list[_Delivery]:
        """Return the next deliveries. One that failed before is delivered alone, so that others do not fail with it."""
        while not self.waiting:
            self.not_empty.clear()
            await self.not_empty.wait()
        taken = [self.waiting.popleft()]
        while not taken[0].attempts and len(taken) < size and self.waiting and not self.waiting[0].attempts:
            taken.append(self.waiting.popleft())
        self.not_full.set()
        self.unacked += len(taken)
        return taken

    def ack(self, deliveries: list[_Delivery]) -> None:
        self.unacked -= len(deliveries)
        deliveries.clear()

    def requeue(self, deliveries: Sequence[_Delivery]) -> None:
        self.unacked -= len(deliveries)
        requeued = [_Delivery(message, attempts + 1) for message, attempts in deliveries]
        self.dead.extend(delivery.message for delivery in requeued if delivery.attempts >= self.max_deliveries)
        self.waiting.extendleft(delivery for delivery in reversed(requeued) if delivery.attempts < self.max_deliveries)
        self.not_empty.set()


class MemoryBus:
    """Messages within one process. `max_buffered` bounds a subscriber's messages, `max_queued` a work queue's."""

    def __init__(
        self,
        queues: Mapping[str, Kinds] = QUEUES,
        max_buffered: int = 10_000,
        max_queued: int = 10_000,
        max_deliveries: int = MAX_DELIVERIES,
    ) -> None:
        self._queues, self._max_buffered = queues, max_buffered
        self._subscribers: dict[DropOldestQueue, Kinds] = {}
        self._work_queues = {queue: _WorkQueue(max_queued, max_deliveries) for queue in queues}

    async def publish(self, *messages: Message) -> None:
        """Publish messages. Waits while a work queue is full."""
        for message in messages:
            for queue, kinds in self._queues.items():
                if isinstance(message, kinds):
                    await self._work_queues[queue].put(message)
            for subscriber, kinds in self._subscribers.items():
                if isinstance(message, kinds):
                    subscriber.put(message)
        await asyncio.sleep(0)  # let subscribers run: a task that only publishes would starve them

    @asynccontextmanager
    async def subscribe(self, *kinds: type[Message]) -> AsyncIterator[AsyncIterator[Message]]:
        """Subscribe to all messages of these kinds from now on."""
        subscriber = DropOldestQueue(self._max_buffered)
        self._subscribers[subscriber] = kinds
        try:
            async with aclosing(subscriber.read()) as messages:
                yield messages
        finally:
            del self._subscribers[subscriber]

    @asynccontextmanager
    async def consume(
        self, queue: str, *kinds: type[Message], size: int = 500, exclusive: bool = False
    ) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        """Consume batches of up to `size` messages as one of the workers of `queue`."""
        if self._queues.get(queue) != kinds:
            raise ValueError(f"the work queue {queue!r} of these kinds is not in QUEUES, so it may have missed some")
        work_queue, taken = self._work_queues[queue], list[_Delivery]()

        async def batches() -> AsyncGenerator[Sequence[Message], None]:
            while True:
                work_queue.ack(taken)
                taken.extend(await work_queue.take(size))
                yield [delivery.message for delivery in taken]

        try:
            async with aclosing(batches()) as stream:
                yield stream
        except BaseException:
            work_queue.requeue(taken)
            raise
        work_queue.ack(taken)

    async def queue_depth(self, queue: str) -> int:
        """Return how many messages of `queue` are not acked: at 0, all are processed."""
        work_queue = self._work_queues[queue]
        return len(work_queue.waiting) + work_queue.unacked

    async def dead_letter_count(self, queue: str) -> int:
        """Return how many dead letters `queue` has."""
        return len(self._work_queues[queue].dead)

    @asynccontextmanager
    async def take_dead_letters(self, queue: str, now: int) -> AsyncIterator[Sequence[DeadLetter]]:
        """Take the dead letters. They are deleted when the block ends normally."""
        work_queue = self._work_queues[queue]
        messages, reason = list(work_queue.dead), f"it failed in each of {work_queue.max_deliveries} deliveries"
        yield [from_message(message, queue, DeadLetterCause.DELIVERY, reason, now) for message in messages]
        for message in messages:
            if work_queue.dead and work_queue.dead[0] is message:  # otherwise newer ones have replaced it
                work_queue.dead.popleft()

    @asynccontextmanager
    async def hold_role(self, role: str, on_wait: Callable[[str], None]) -> AsyncIterator[Lease]:
        """Hold a role. There is no other process on this bus."""
        yield Lease()

    async def ping(self) -> None:
        """Check nothing: there is no server."""

    async def close(self) -> None:
        """Close nothing: there is no connection."""
