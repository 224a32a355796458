"""Messages for a bus under test, and who sends and takes them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

from services.adapters.memory import MemoryBus
from services.adapters.rabbit import RabbitBus
from services.adapters.rabbit.broker import Broker
from services.core.errors import Unavailable
from services.core.model import Gap, Instrument, Message, Tick
from services.ports import Bus
from tests import servers

TRIES = 3
LIVE_LIMIT = 20


def gaps(*numbers: int, exchange: str = "binance") -> list[Gap]:
    return [Gap(exchange, since=number, until=number, reason="test") for number in numbers]


def ticks(*numbers: int, base: str = "BTC") -> list[Tick]:
    return [Tick("binance", Instrument(base, "USD"), number, price=Decimal("0.10")) for number in numbers]


@asynccontextmanager
async def rabbit_bus(server: servers.Rabbit, queue: str) -> AsyncIterator[RabbitBus]:
    bus = RabbitBus(Broker(server.url, {queue: (Gap,)}, TRIES), LIVE_LIMIT)
    await bus.ping()
    yield bus
    await bus.close()


async def worked(bus: Bus, queue: str, number: int, size: int = 500) -> list[Sequence[Message]]:
    """The next batches, until they hold so many messages; all are settled."""
    batches: list[Sequence[Message]] = []
    async with asyncio.timeout(30), bus.work(queue, Gap, size=size) as work:
        async for batch in work:
            batches.append(batch)
            if sum(map(len, batches)) >= number:
                break
    return batches


def flat(batches: Sequence[Sequence[Message]]) -> list[Message]:
    return [message for batch in batches for message in batch]


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def until_dead(bus: MemoryBus | RabbitBus, queue: str, number: int) -> None:
    async with asyncio.timeout(30):
        while await bus.dead(queue) != number:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*jobs: Coroutine[None, None, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The jobs beside the block, cancelled after it. One that ended by itself is an error."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield tasks
        assert not [task for task in tasks if task.done() and not task.cancelled()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Traffic:
    """A publisher, a worker and a listener on one bus, and what each has had."""

    def __init__(self, bus: Bus, queue: str) -> None:
        self.bus, self.queue = bus, queue
        self.accepted: set[int] = set()
        self.done: set[int] = set()
        self.heard: set[int] = set()

    async def publish(self) -> None:
        for number in range(10**6):
            with suppress(Unavailable):
                await self.bus.publish(*gaps(number))
                self.accepted.add(number)
            await asyncio.sleep(0.005)

    async def work(self) -> None:
        async with self.bus.work(self.queue, Gap, size=10) as work:
            async for batch in work:
                await asyncio.sleep(0.01)
                self.done.update(message.since for message in batch if isinstance(message, Gap))

    async def listen(self) -> None:
        async with self.bus.live(Gap) as messages:
            async for message in messages:
                self.heard.update({message.since} if isinstance(message, Gap) else ())

    async def flows(self) -> None:
        """Returns when, from here on, messages are accepted, worked on and heard."""
        ways = self.accepted, self.done, self.heard
        before = [len(way) for way in ways]
        await until(lambda: all(len(way) > then + 20 for way, then in zip(ways, before, strict=True)))


async def waits(bus: Bus, queue: str, number: int) -> None:
    """Wait until so many messages wait for a worker."""
    async with asyncio.timeout(30):
        while await bus.waiting(queue) != number:
            await asyncio.sleep(0.02)
