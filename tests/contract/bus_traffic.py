"""Messages for a bus under test, and who sends and takes them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

from services.adapters.memory import MemoryBus
from services.adapters.rabbit import RabbitBus
from services.adapters.rabbit.broker import Broker
from services.core.errors import Unavailable
from services.core.model import FeedGap, Instrument, Message, Quote
from services.ports import Bus
from tests import servers
from tests.waiting import eventually

MAX_DELIVERIES = 3
MAX_LIVE_MESSAGES = 20


def feed_gaps(*numbers: int, exchange: str = "binance") -> list[FeedGap]:
    return [FeedGap(exchange, since=number, until=number, reason="test") for number in numbers]


def quotes(*numbers: int, base: str = "BTC") -> list[Quote]:
    return [Quote("binance", Instrument(base, "USD"), number, price=Decimal("0.10")) for number in numbers]


@asynccontextmanager
async def open_rabbit_bus(server: servers.Rabbit, queue: str) -> AsyncIterator[RabbitBus]:
    bus = RabbitBus(Broker(server.url, {queue: (FeedGap,)}, MAX_DELIVERIES), MAX_LIVE_MESSAGES)
    await bus.ping()
    yield bus
    await bus.close()


async def consume_messages(bus: Bus, queue: str, number: int, size: int = 500) -> list[Sequence[Message]]:
    """The next batches, until they hold so many messages; all are settled."""
    batches: list[Sequence[Message]] = []
    async with asyncio.timeout(30), bus.consume(queue, FeedGap, size=size) as work:
        async for batch in work:
            batches.append(batch)
            if sum(map(len, batches)) >= number:
                break
    return batches


def flatten(batches: Sequence[Sequence[Message]]) -> list[Message]:
    return [message for batch in batches for message in batch]


async def wait_for_dead_letters(bus: MemoryBus | RabbitBus, queue: str, number: int) -> None:
    async with asyncio.timeout(30):
        while await bus.dead_letter_count(queue) != number:
            await asyncio.sleep(0.02)


class BusTraffic:
    """A publisher, a worker and a listener on one bus, and what each has had."""

    def __init__(self, bus: Bus, queue: str) -> None:
        self.bus, self.queue = bus, queue
        self.published: set[int] = set()
        self.consumed: set[int] = set()
        self.received: set[int] = set()

    async def publish(self) -> None:
        for number in range(10**6):
            with suppress(Unavailable):
                await self.bus.publish(*feed_gaps(number))
                self.published.add(number)
            await asyncio.sleep(0.005)

    async def consume(self) -> None:
        async with self.bus.consume(self.queue, FeedGap, size=10) as work:
            async for batch in work:
                await asyncio.sleep(0.01)
                self.consumed.update(message.since for message in batch if isinstance(message, FeedGap))

    async def subscribe(self) -> None:
        async with self.bus.subscribe(FeedGap) as messages:
            async for message in messages:
                self.received.update({message.since} if isinstance(message, FeedGap) else ())

    async def wait_for_flow(self) -> None:
        """Returns when, from here on, messages are accepted, worked on and heard."""
        ways = self.published, self.consumed, self.received
        before = [len(way) for way in ways]
        await eventually(lambda: all(len(way) > then + 20 for way, then in zip(ways, before, strict=True)))


async def wait_for_queue_depth(bus: Bus, queue: str, number: int) -> None:
    """Wait until so many messages wait for a worker."""
    async with asyncio.timeout(30):
        while await bus.queue_depth(queue) != number:
            await asyncio.sleep(0.02)
