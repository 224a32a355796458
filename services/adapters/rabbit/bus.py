"""The bus on RabbitMQ: publishing, subscriptions, and consumers of work queues."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import TypeVar

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aiormq.abc import DeliveredMessage
from pamqp.common import FieldTable

from services.adapters.codec import kind_name, pack, to_dead_letters, unpack, unpack_each
from services.adapters.drop_oldest import DropOldestQueue
from services.adapters.rabbit import role_queue
from services.adapters.rabbit.broker import TIMEOUT_SECONDS, Broker, on_loss, translate_errors
from services.adapters.rabbit.consumer import BatchConsumer
from services.adapters.rabbit.publisher import Publisher
from services.adapters.retry import retry_until_available
from services.core.backoff import delays
from services.core.bounds import clean_text
from services.core.dead_letters import DeadLetter
from services.core.errors import Unavailable
from services.core.markets import LIVE, Market
from services.core.model import Message
from services.leases import Lease
from services.ports import MAX_DELIVERIES, QUEUES, Kinds

MAX_BUFFERED = 10_000  # messages here, deliveries at the broker, that wait for a slow subscriber
MAX_BUFFERED_BYTES = 64_000_000  # of such deliveries
MAX_PREFETCH = 1_000  # deliveries; each may contain many messages
PING_KEY = "ping"  # first word of a routing key
MAX_DEAD_DELIVERIES = 10  # taken at once
T = TypeVar("T")
log = logging.getLogger("kurs.bus")


async def connect(
    url: str, queues: Mapping[str, Kinds] = QUEUES, deliveries: int = MAX_DELIVERIES, market: Market = LIVE
) -> "RabbitBus":
    """Return a bus on `amqp://` or `amqps://`. It connects when first used."""
    return RabbitBus(Broker(url, queues, deliveries, market))


async def reconnecting(open_stream: Callable[[], Awaitable[AsyncGenerator[T, None]]]) -> AsyncGenerator[T, None]:
    """Yield the items of one stream after another, each of which ends with its connection.

    Returns when the first stream is open.
    """

    async def items(stream: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        waits = delays(limit=2)
        while True:
            with suppress(Unavailable):
                async with aclosing(stream):
                    async for item in stream:
                        waits = delays(limit=2)
                        yield item
            log.warning("the bus (RabbitMQ) is lost: reading goes on as soon as it answers")
            await asyncio.sleep(next(waits))
            stream = await retry_until_available(open_stream)

    return items(await retry_until_available(open_stream))


class RabbitBus:
    """Messages between processes."""

    def __init__(self, broker: Broker, live_limit: int = MAX_BUFFERED) -> None:
        self._broker, self._max_buffered = broker, live_limit
        self._publisher = Publisher(broker)

    async def publish(self, *messages: Message) -> None:
        """Publish messages. When this returns, the broker has confirmed those not of `UNCONFIRMED_KINDS`.

        Raises Unavailable after a few seconds.
        """
        if messages:
            await self._publisher.publish(pack(messages, self._publisher.queued_kinds))

    @asynccontextmanager
    async def subscribe(self, *kinds: type[Message]) -> AsyncIterator[AsyncIterator[Message]]:
        """Subscribe to all messages of these kinds from now on. Those published during a disconnect are missed."""
        async with (
            AsyncExitStack() as line,
            aclosing(await reconnecting(partial(self._open_subscription, line, kinds))) as messages,
        ):
            yield messages

    async def _open_subscription(self, line: AsyncExitStack, kinds: Kinds) -> AsyncGenerator[Message, None]:
        """Open a connection with an exclusive queue. The messages end with the connection."""
        tail, unreadable = DropOldestQueue(self._max_buffered), count(1)

        async def hear(letter: DeliveredMessage) -> None:
            try:
                tail.put(*unpack(letter.body))
            except ValueError as error:
                tail.put(*unpack_each(letter.body)[0])
                if (number := next(unreadable)).bit_count() == 1:  # all of them may be so while versions differ
                    log.error(
                        "%d cannot be read and passed over, now %s: %s",
                        number,
                        letter.routing_key,
                        clean_text(str(error)),
                    )

        await line.aclose()
        _, channel = await line.enter_async_context(self._broker.connect())
        with translate_errors():
            limits: FieldTable = {"x-max-length": self._max_buffered, "x-max-length-bytes": MAX_BUFFERED_BYTES}
            arguments: FieldTable = {**limits, "x-overflow": "drop-head"}
            queue = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=arguments)
            for kind in kinds:
                await queue.bind(self._broker.exchange, f"{kind_name(kind)}.#")
            await on_loss(channel, tail.close)
            wire = await channel.get_underlay_channel()  # aio-pika's own consumer starts a task for each delivery
            await wire.basic_consume(queue.name, hear, no_ack=True)
        return tail.read()

    @asynccontextmanager
    async def consume(
        self, queue: str, *kinds: type[Message], size: int = 500, exclusive: bool = False
    ) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        """Consume batches of up to `size` messages as one of the workers of `queue`. A broker's restart loses none.

        `exclusive`: begin when the previous worker's connection is closed. Its unacked messages are requeued by then.
        """
        if self._broker.queues.get(queue) != kinds:
            raise ValueError(f"the work queue {queue!r} of these kinds is not in QUEUES, so it may have missed some")
        async with AsyncExitStack() as line:
            desk: BatchConsumer | None = None

            async def sit_down() -> AsyncGenerator[Sequence[Message], None]:
                nonlocal desk
                desk = await self._open_consumer(line, queue, size, exclusive)
                return desk.batches()

            # an exception leaves the batch unacked: the broker requeues it when the connection closes
            async with aclosing(await reconnecting(sit_down)) as batches:
                yield batches
            with suppress(Unavailable):  # then the batch is delivered again
                await desk.ack() if desk else None

    async def _open_consumer(self, line: AsyncExitStack, queue: str, size: int, alone: bool) -> BatchConsumer:
        """Open a consumer of the queue on a new connection."""
        await line.aclose()
        _, channel = await line.enter_async_context(
            self._broker.connect(role_queue.ROLE_HEARTBEAT_SECONDS, declare=True)
        )
        with translate_errors():
            if alone and not await role_queue.own_queue(channel, self._broker.market_name(f"worker.{queue}")):
                raise Unavailable(f"the queue {queue} still has another worker")
            await channel.set_qos(prefetch_count=min(size, MAX_PREFETCH))
            dead = self._broker.market_name(f"{queue}.dead")
            desk = BatchConsumer(await channel.get_queue(self._broker.market_name(queue)), dead, size)
            await on_loss(channel, desk.close)
            return desk

    async def queue_depth(self, queue: str) -> int:
        """Return how many deliveries of `queue` wait for a worker."""
        async with self._broker.connect() as (_, channel):
            with translate_errors():
                return (await channel.get_queue(self._broker.market_name(queue))).declaration_result.message_count or 0

    async def dead_letter_count(self, queue: str) -> int:
        """Return how many deliveries of `queue` are dead."""
        return await self.queue_depth(f"{queue}.dead")

    @asynccontextmanager
    async def take_dead_letters(self, queue: str, now: int) -> AsyncIterator[Sequence[DeadLetter]]:
        """Take some dead letters. The broker deletes them when the block ends normally."""
        with translate_errors():
            channel = await (await self._publisher.connection()).channel()
        try:
            with translate_errors():
                letters = await self._get_dead(await channel.get_queue(self._broker.market_name(f"{queue}.dead")))
            yield [
                each for letter in letters for each in to_dead_letters(letter.body, queue, _death_reason(letter), now)
            ]
            with translate_errors():
                for letter in letters:
                    await letter.ack()
        finally:
            with suppress(Unavailable), translate_errors():
                await channel.close()

    @staticmethod
    async def _get_dead(dead: AbstractQueue) -> list[AbstractIncomingMessage]:
        found = list[AbstractIncomingMessage]()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(found) < MAX_DEAD_DELIVERIES and (letter := await dead.get(fail=False)):
                found.append(letter)
        return found

    def hold_role(self, role: str, on_wait: Callable[[str], None]) -> AbstractAsyncContextManager[Lease]:
        """Hold a role as soon as no other process does; `on_wait` is called with its holder's name."""
        return role_queue.hold_role(self._broker, role, on_wait)

    async def ping(self) -> None:
        """Publish a message through the AMQP exchange and receive it. Raises Unavailable."""
        with translate_errors():
            async with asyncio.timeout(TIMEOUT_SECONDS):
                connection = await self._publisher.connection()
                async with connection.channel(publisher_confirms=False) as channel:  # receiving it is proof enough
                    queue = await channel.declare_queue(exclusive=True)
                    exchange = await channel.get_exchange(self._broker.exchange, ensure=False)
                    await queue.bind(exchange, f"{PING_KEY}.{queue.name}")
                    await exchange.publish(aio_pika.Message(b"ping"), f"{PING_KEY}.{queue.name}")
                    await queue.get(no_ack=True)
                    await queue.delete()

    async def close(self) -> None:
        """Close the publisher's connection. Each subscriber closes its own."""
        await self._publisher.close()


def _death_reason(letter: AbstractIncomingMessage) -> str:
    """Return why the broker abandoned a delivery: `delivery_limit`, or `rejected` by a worker that cannot decode it."""
    return f"abandoned by the broker: {letter.headers.get('x-first-death-reason', 'a part of it cannot be decoded')!s}"
