"""The bus on RabbitMQ: publishing, subscriptions, and consumers of work queues."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, suppress
from functools import partial
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
from services.adapters.retry import MAX_DELAY_SECONDS, retry_until_available
from services.core.backoff import delays
from services.core.bounds import clean_text
from services.core.dead_letters import DeadLetter
from services.core.errors import Unavailable
from services.core.markets import LIVE, Market
from services.core.model import Message
from services.leases import Lease
from services.log_throttle import ThrottledLog
from services.ports import MAX_DELIVERIES, QUEUES, Kinds

MAX_BUFFERED = 10_000  # messages here, deliveries at the broker, that wait for a slow subscriber
MAX_SUBSCRIPTION_BYTES = 64_000_000  # of such deliveries
MAX_PREFETCH = 1_000  # deliveries; each may contain many messages
PING_KEY = "ping"  # first word of a routing key
MAX_DEAD_DELIVERIES = 10  # taken at once
T = TypeVar("T")
log = logging.getLogger(__name__)


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
        waits = delays(limit=MAX_DELAY_SECONDS)
        while True:
            with suppress(Unavailable):
                async with aclosing(stream):
                    async for item in stream:
                        waits = delays(limit=MAX_DELAY_SECONDS)
                        yield item
            log.warning("bus: the connection to RabbitMQ is lost, reconnecting")
            await asyncio.sleep(next(waits))
            stream = await retry_until_available(open_stream)

    return items(await retry_until_available(open_stream))


class _Worker:
    """One worker of a work queue, on one connection after another."""

    def __init__(self, broker: Broker, connection: AsyncExitStack, queue: str, size: int, exclusive: bool) -> None:
        self._broker, self._connection = broker, connection
        self._queue, self._size, self._exclusive = queue, size, exclusive
        self._consumer: BatchConsumer | None = None

    async def open(self) -> AsyncGenerator[Sequence[Message], None]:
        """Open a consumer on a new connection, and return its batches. Raises Unavailable."""
        await self._connection.aclose()
        opening = self._broker.connect(role_queue.ROLE_HEARTBEAT_SECONDS, declare=(self._queue,))
        _, channel = await self._connection.enter_async_context(opening)
        name, dead, lock = map(self._broker.market_name, (self._queue, f"{self._queue}.dead", f"worker.{self._queue}"))
        with translate_errors():
            if self._exclusive and not await role_queue.own_queue(channel, lock):
                raise Unavailable(f"the queue {self._queue} still has another worker")
            await channel.set_qos(prefetch_count=min(self._size, MAX_PREFETCH))
            consumer = self._consumer = BatchConsumer(await channel.get_queue(name), dead, self._size)
            await on_loss(channel, consumer.close)
        return consumer.batches()

    async def ack(self) -> None:
        """Ack the last batch. If the connection is lost, it is delivered again."""
        if self._consumer:
            with suppress(Unavailable):
                await self._consumer.ack()


class RabbitBus:
    """Messages between processes."""

    def __init__(self, broker: Broker, max_buffered: int = MAX_BUFFERED) -> None:
        self._broker, self._max_buffered = broker, max_buffered
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
            AsyncExitStack() as connection,
            aclosing(await reconnecting(partial(self._open_subscription, connection, kinds))) as messages,
        ):
            yield messages

    async def _open_subscription(self, connection: AsyncExitStack, kinds: Kinds) -> AsyncGenerator[Message, None]:
        """Open a connection with an exclusive queue. The messages end with the connection."""
        buffer, undecodable_log = DropOldestQueue(self._max_buffered), ThrottledLog(log)

        async def on_delivery(delivery: DeliveredMessage) -> None:
            try:
                buffer.put(*unpack(delivery.body))
            except ValueError as error:  # common while processes of two versions run
                buffer.put(*unpack_each(delivery.body)[0])
                text = "bus: a message with the routing key %s cannot be decoded and is ignored: %s"
                undecodable_log.log(logging.ERROR, text, delivery.routing_key, clean_text(str(error)))

        await connection.aclose()
        _, channel = await connection.enter_async_context(self._broker.connect())
        with translate_errors():
            limits: FieldTable = {"x-max-length": self._max_buffered, "x-max-length-bytes": MAX_SUBSCRIPTION_BYTES}
            arguments: FieldTable = {**limits, "x-overflow": "drop-head"}
            queue = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=arguments)
            for kind in kinds:
                await queue.bind(self._broker.exchange, f"{kind_name(kind)}.#")
            await on_loss(channel, buffer.close)
            wire = await channel.get_underlay_channel()  # aio-pika's own consumer starts a task for each delivery
            await wire.basic_consume(queue.name, on_delivery, no_ack=True)
        return buffer.read()

    @asynccontextmanager
    async def consume(
        self, queue: str, *kinds: type[Message], size: int = 500, exclusive: bool = False
    ) -> AsyncIterator[AsyncIterator[Sequence[Message]]]:
        """Consume batches of up to `size` messages as one of the workers of `queue`. A broker's restart loses none.

        `exclusive`: begin when the previous worker's connection is closed. Its unacked messages are requeued by then.
        """
        if self._broker.queues.get(queue) != kinds:
            raise ValueError(f"the work queue {queue!r} of these kinds is not in QUEUES, so it may have missed some")
        async with AsyncExitStack() as connection:
            worker = _Worker(self._broker, connection, queue, size, exclusive)
            # an exception leaves the batch unacked: the broker requeues it when the connection closes
            async with aclosing(await reconnecting(worker.open)) as batches:
                yield batches
            await worker.ack()

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
                deliveries = await self._get_dead(await channel.get_queue(self._broker.market_name(f"{queue}.dead")))
            yield [letter for each in deliveries for letter in to_dead_letters(each.body, queue, _reason(each), now)]
            with translate_errors():
                for delivery in deliveries:
                    await delivery.ack()
        finally:
            with suppress(Unavailable), translate_errors():
                await channel.close()

    @staticmethod
    async def _get_dead(dead_queue: AbstractQueue) -> list[AbstractIncomingMessage]:
        deliveries = list[AbstractIncomingMessage]()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(deliveries) < MAX_DEAD_DELIVERIES and (delivery := await dead_queue.get(fail=False)):
                deliveries.append(delivery)
        return deliveries

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


def _reason(delivery: AbstractIncomingMessage) -> str:
    """Return why the broker abandoned a delivery: `delivery_limit`, or `rejected` by a worker that cannot decode it."""
    reason = delivery.headers.get("x-first-death-reason", "a part of it cannot be decoded")
    return f"abandoned by the broker: {reason!s}"
