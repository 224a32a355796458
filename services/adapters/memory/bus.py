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

MAX_DEAD_MESSAGES = 1_000  # messages that wait here to be taken as dead; the oldest give way


class _Delivery(NamedTuple):
    message: Message
    attempts: int  # how often a worker has had it


class _WorkQueue:
    """One work queue: whoever puts into a full one waits; what is given back comes first."""

    def __init__(self, limit: int, max_deliveries: int) -> None:
        self.limit, self.max_deliveries = limit, max_deliveries
        self.waiting: deque[_Delivery] = deque()
        self.dead: deque[Message] = deque(maxlen=MAX_DEAD_MESSAGES)
        self.unacked = 0  # by workers, and not settled
        self.not_empty, self.not_full = asyncio.Event(), asyncio.Event()

    async def put(self, message: Message) -> None:
        while len(self.waiting) >= self.limit:
            self.not_full.clear()
            await self.not_full.wait()
        self.waiting.append(_Delivery(message, 0))
        self.not_empty.set()

    async def take(self, size: int) -> list[_Delivery]:
        """The next letters. One that failed before comes alone, so that it cannot take others with it."""
        while not self.waiting:
            self.not_empty.clear()
            await self.not_empty.wait()
        taken = [self.waiting.popleft()]
        while not taken[0].attempts and len(taken) < size and self.waiting and not self.waiting[0].attempts:
            taken.append(self.waiting.popleft())
        self.not_full.set()
        self.unacked += len(taken)
        return taken

    def ack(self, letters: list[_Delivery]) -> None:
        self.unacked -= len(letters)
        letters.clear()

    def requeue(self, letters: Sequence[_Delivery]) -> None:
        self.unacked -= len(letters)
        tried = [_Delivery(message, delivered + 1) for message, delivered in letters]
        self.dead.extend(letter.message for letter in tried if letter.attempts >= self.max_deliveries)
        self.waiting.extendleft(letter for letter in reversed(tried) if letter.attempts < self.max_deliveries)
        self.not_empty.set()


class MemoryBus:
    """Messages within one process. `live_limit` and `work_limit` are messages per listener and per work queue."""

    def __init__(
        self,
        queues: Mapping[str, Kinds] = QUEUES,
        live_limit: int = 10_000,
        work_limit: int = 10_000,
        deliveries: int = MAX_DELIVERIES,
    ) -> None:
        self._queues, self._live_limit = queues, live_limit
        self._subscribers: dict[DropOldestQueue, Kinds] = {}
        self._work_queues = {queue: _WorkQueue(work_limit, deliveries) for queue in queues}

    async def publish(self, *messages: Message) -> None:
        """Hand messages over; waits while a work queue is full."""
        for message in messages:
            for queue, kinds in self._queues.items():
                if isinstance(message, kinds):
                    await self._work_queues[queue].put(message)
            for tail, kinds in self._subscribers.items():
                if isinstance(message, kinds):
                    tail.put(message)
        await asyncio.sleep(0)  # listeners have their turn, else one who only publishes would starve them

    @asynccontextmanager
    async def subscribe(self, *kinds: type[Message]) -> AsyncIterator[AsyncIterator[Message]]:
        """All messages of these kinds from now on."""
        tail = DropOldestQueue(self._live_limit)
        self._subscribers[tail] = kinds
        try:
            async with aclosing(tail.read()) as messages:
                yield messages
        finally:
            del self._subscribers[tail]

    @asynccontextmanager
    async def consume(
        self, queue: str, *kinds: type[Message], size: int = 500, exclusive: bool = False
    ) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        """Batches of up to `size` messages, each to one worker of `queue`."""
        if self._queues.get(queue) != kinds:
            raise ValueError(f"the work queue {queue!r} of these kinds is not in QUEUES, so it may have missed some")
        backlog, taken = self._work_queues[queue], list[_Delivery]()

        async def batches() -> AsyncGenerator[Sequence[Message], None]:
            while True:
                backlog.ack(taken)
                taken.extend(await backlog.take(size))
                yield [letter.message for letter in taken]

        try:
            async with aclosing(batches()) as stream:
                yield stream
        except BaseException:
            backlog.requeue(taken)
            raise
        backlog.ack(taken)

    async def queue_depth(self, queue: str) -> int:
        """How many messages of `queue` are not settled: with 0, all is done."""
        backlog = self._work_queues[queue]
        return len(backlog.waiting) + backlog.unacked

    async def dead_letter_count(self, queue: str) -> int:
        """How many messages of `queue` were given up."""
        return len(self._work_queues[queue].dead)

    @asynccontextmanager
    async def take_dead_letters(self, queue: str, now: int) -> AsyncIterator[Sequence[DeadLetter]]:
        """Some of what was set aside; it is forgotten when left in peace."""
        backlog = self._work_queues[queue]
        messages, reason = list(backlog.dead), f"it was tried {backlog.max_deliveries} times in vain"
        yield [from_message(message, queue, DeadLetterCause.DELIVERY, reason, now) for message in messages]
        for message in messages:
            if backlog.dead and backlog.dead[0] is message:  # else newer ones have taken its place
                backlog.dead.popleft()

    @asynccontextmanager
    async def hold_role(self, role: str, on_wait: Callable[[str], None]) -> AsyncIterator[Lease]:
        """Have a role. There is no other process on this bus."""
        yield Lease()

    async def ping(self) -> None:
        """Nothing lies in between."""

    async def close(self) -> None:
        """Nothing is open."""
