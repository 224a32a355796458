"""Messages for a bus under test, with publishers and consumers of them."""

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
    """Consume batches until they have `number` messages. All are acked."""
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
    async def has_number() -> bool:
        return await bus.dead_letter_count(queue) == number

    await eventually(has_number)


class BusTraffic:
    """A publisher, a consumer and a subscriber on one bus, and the numbers that passed each."""

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
        """Wait until messages pass the publisher, the consumer and the subscriber."""
        passed = self.published, self.consumed, self.received
        before = [len(each) for each in passed]
        await eventually(lambda: all(len(each) > then + 20 for each, then in zip(passed, before, strict=True)))


async def wait_for_queue_depth(bus: Bus, queue: str, number: int) -> None:
    """Wait until `number` messages are in a work queue."""

    async def has_number() -> bool:
        return await bus.queue_depth(queue) == number

    await eventually(has_number)
