"""The bus within one process."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

from services.adapters.drop_oldest import Tail
from services.core.dead_letters import Cause, DeadLetter, of_message
from services.core.model import Message
from services.leases import Lease
from services.ports import DELIVERIES, QUEUES, Kinds

DEAD_LIMIT = 1_000  # messages that wait here to be taken as dead; the oldest give way


class _Letter(NamedTuple):
    message: Message
    delivered: int  # how often a worker has had it


class _Backlog:
    """One work queue: whoever puts into a full one waits; what is given back comes first."""

    def __init__(self, limit: int, deliveries: int) -> None:
        self.limit, self.deliveries = limit, deliveries
        self.letters: deque[_Letter] = deque()
        self.dead: deque[Message] = deque(maxlen=DEAD_LIMIT)
        self.taken = 0  # by workers, and not settled
        self.some, self.room = asyncio.Event(), asyncio.Event()

    async def put(self, message: Message) -> None:
        while len(self.letters) >= self.limit:
            self.room.clear()
            await self.room.wait()
        self.letters.append(_Letter(message, 0))
        self.some.set()

    async def take(self, size: int) -> list[_Letter]:
        """The next letters. One that failed before comes alone, so that it cannot take others with it."""
        while not self.letters:
            self.some.clear()
            await self.some.wait()
        taken = [self.letters.popleft()]
        while not taken[0].delivered and len(taken) < size and self.letters and not self.letters[0].delivered:
            taken.append(self.letters.popleft())
        self.room.set()
        self.taken += len(taken)
        return taken

    def settle(self, letters: list[_Letter]) -> None:
        self.taken -= len(letters)
        letters.clear()

    def give_back(self, letters: Sequence[_Letter]) -> None:
        self.taken -= len(letters)
        tried = [_Letter(message, delivered + 1) for message, delivered in letters]
        self.dead.extend(letter.message for letter in tried if letter.delivered >= self.deliveries)
        self.letters.extendleft(letter for letter in reversed(tried) if letter.delivered < self.deliveries)
        self.some.set()


class MemoryBus:
    """Messages within one process. `live_limit` and `work_limit` are messages per listener and per work queue."""

    def __init__(
        self,
        queues: Mapping[str, Kinds] = QUEUES,
        live_limit: int = 10_000,
        work_limit: int = 10_000,
        deliveries: int = DELIVERIES,
    ) -> None:
        self._queues, self._live_limit = queues, live_limit
        self._tails: dict[Tail, Kinds] = {}
        self._backlogs = {queue: _Backlog(work_limit, deliveries) for queue in queues}

    async def publish(self, *messages: Message) -> None:
        """Hand messages over; waits while a work queue is full."""
        for message in messages:
            for queue, kinds in self._queues.items():
                if isinstance(message, kinds):
                    await self._backlogs[queue].put(message)
            for tail, kinds in self._tails.items():
                if isinstance(message, kinds):
                    tail.put(message)
        await asyncio.sleep(0)  # listeners have their turn, else one who only publishes would starve them

    @asynccontextmanager
    async def live(self, *kinds: type[Message]) -> AsyncIterator[AsyncIterator[Message]]:
        """All messages of these kinds from now on."""
        tail = Tail(self._live_limit)
        self._tails[tail] = kinds
        try:
            async with aclosing(tail.read()) as messages:
                yield messages
        finally:
            del self._tails[tail]

    @asynccontextmanager
    async def work(
        self, queue: str, *kinds: type[Message], size: int = 500, alone: bool = False
    ) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        """Batches of up to `size` messages, each to one worker of `queue`."""
        if self._queues.get(queue) != kinds:
            raise ValueError(f"the work queue {queue!r} of these kinds is not in QUEUES, so it may have missed some")
        backlog, taken = self._backlogs[queue], list[_Letter]()

        async def batches() -> AsyncGenerator[Sequence[Message], None]:
            while True:
                backlog.settle(taken)
                taken.extend(await backlog.take(size))
                yield [letter.message for letter in taken]

        try:
            async with aclosing(batches()) as stream:
                yield stream
        except BaseException:
            backlog.give_back(taken)
            raise
        backlog.settle(taken)

    async def waiting(self, queue: str) -> int:
        """How many messages of `queue` are not settled: with 0, all is done."""
        backlog = self._backlogs[queue]
        return len(backlog.letters) + backlog.taken

    async def dead(self, queue: str) -> int:
        """How many messages of `queue` were given up."""
        return len(self._backlogs[queue].dead)

    @asynccontextmanager
    async def take_dead(self, queue: str, now: int) -> AsyncIterator[Sequence[DeadLetter]]:
        """Some of what was set aside; it is forgotten when left in peace."""
        backlog = self._backlogs[queue]
        messages, reason = list(backlog.dead), f"it was tried {backlog.deliveries} times in vain"
        yield [of_message(message, queue, Cause.DELIVERY, reason, now) for message in messages]
        for message in messages:
            if backlog.dead and backlog.dead[0] is message:  # else newer ones have taken its place
                backlog.dead.popleft()

    @asynccontextmanager
    async def hold(self, role: str, waits: Callable[[str], None]) -> AsyncIterator[Lease]:
        """Have a role. There is no other process on this bus."""
        yield Lease()

    async def ping(self) -> None:
        """Nothing lies in between."""

    async def close(self) -> None:
        """Nothing is open."""
