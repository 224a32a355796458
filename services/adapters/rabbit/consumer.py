"""A worker's consumer of a work queue."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from enum import Enum, auto
from typing import NamedTuple

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from services.adapters.codec import unpack, unpack_each
from services.adapters.rabbit.broker import translate_errors
from services.core.bounds import clean_text
from services.core.model import Message
from services.log_throttle import ThrottledLog

log = logging.getLogger(__name__)


class ConsumerState(Enum):
    """How a consumer gets its deliveries."""

    ONE_BY_ONE = auto()  # it fetches each one: the queue begins with requeued deliveries
    STREAMING = auto()  # the broker pushes them
    LOST = auto()  # its connection is lost


class ConsumerEvent(Enum):
    """What changes a consumer's state."""

    FETCHED_REQUEUED = auto()  # a delivery that failed before
    FETCHED_NEW = auto()  # a delivery that did not, or none: no requeued one is left
    DISCONNECTED = auto()


def transition(state: ConsumerState, event: ConsumerEvent) -> ConsumerState:
    """Return the next state. A lost connection does not come back, and a streaming consumer never fetches again."""
    match state, event:
        case ConsumerState.LOST, _:
            return ConsumerState.LOST
        case _, ConsumerEvent.DISCONNECTED:
            return ConsumerState.LOST
        case ConsumerState.ONE_BY_ONE, ConsumerEvent.FETCHED_NEW:
            return ConsumerState.STREAMING
    return state


class _MessageGroup(NamedTuple):
    messages: list[Message]
    last: AbstractIncomingMessage  # the delivery that ends the group


class BatchConsumer:
    """Consumer of one queue on one connection.

    Requeued deliveries come first, and are fetched one by one: when one fails again, the broker counts every other
    unacked delivery as failed too.
    """

    def __init__(self, queue: AbstractQueue, dead_queue: str, size: int) -> None:
        self._queue, self._dead_queue, self._size = queue, dead_queue, size
        self._state = ConsumerState.ONE_BY_ONE
        self._deliveries: deque[AbstractIncomingMessage] = deque()
        self._decoded: list[Message] = []  # messages of the first delivery, once it is decoded
        self._unacked: AbstractIncomingMessage | None = None  # the last delivery whose messages were all yielded
        self._changed = asyncio.Event()
        self._undecodable_log = ThrottledLog(log)

    async def batches(self) -> AsyncGenerator[Sequence[Message], None]:
        """Yield up to `size` messages at a time. A batch is acked when the next is requested. Raises Unavailable."""
        with translate_errors():
            while True:
                messages, delivery = await self._next_group()
                *first, last = (messages[start : start + self._size] for start in range(0, len(messages), self._size))
                for batch in first:
                    yield batch
                self._unacked = delivery
                yield last
                await self.ack()

    async def ack(self) -> None:
        """Ack all deliveries whose messages were yielded. Raises Unavailable."""
        delivery, self._unacked = self._unacked, None
        if delivery:
            with translate_errors():
                await delivery.ack(multiple=True)

    def close(self) -> None:
        """Stop, because the connection is lost. The broker delivers everything unacked again."""
        self._state = transition(self._state, ConsumerEvent.DISCONNECTED)
        self._changed.set()

    async def _wait_for_delivery(self) -> None:
        while not self._deliveries and self._state is not ConsumerState.LOST:
            if self._state is ConsumerState.ONE_BY_ONE:
                await self._fetch()
            else:
                self._changed.clear()
                await self._changed.wait()
        if self._state is ConsumerState.LOST:
            raise ConnectionError("the connection is lost")

    async def _fetch(self) -> None:
        delivery = await self._queue.get(fail=False)
        if delivery:
            await self._on_delivery(delivery)
        requeued = delivery is not None and bool(delivery.redelivered)
        event = ConsumerEvent.FETCHED_REQUEUED if requeued else ConsumerEvent.FETCHED_NEW
        self._state = transition(self._state, event)
        if self._state is ConsumerState.STREAMING:
            await self._queue.consume(self._on_delivery)

    async def _on_delivery(self, delivery: AbstractIncomingMessage) -> None:
        """Append a delivery undecoded: a thousand decoded ones use ten times the memory of their bodies."""
        self._deliveries.append(delivery)
        self._changed.set()

    async def _next_group(self) -> _MessageGroup:
        """Return the messages of as many deliveries as fit into a batch, at least one, and a requeued one alone."""
        await self._wait_for_delivery()
        while not await self._decode_first():
            await self._wait_for_delivery()
        messages, last = self._pop_first()
        while not last.redelivered and (following := await self._decode_first()):
            if self._deliveries[0].redelivered or len(messages) + len(following) > self._size:
                break
            messages.extend(following)
            _, last = self._pop_first()
        return _MessageGroup(messages, last)

    async def _decode_first(self) -> list[Message]:
        """Return the messages of the first delivery that has some; empty when no delivery is left."""
        while self._deliveries and not self._decoded:
            try:
                self._decoded = unpack(self._deliveries[0].body)
            except ValueError as error:
                text = "bus: a message in %s cannot be decoded and becomes a dead letter: %s"
                self._undecodable_log.log(logging.ERROR, text, self._queue.name, clean_text(str(error)))
                self._decoded = await self._set_aside_undecodable(self._deliveries[0])
        return self._decoded

    async def _set_aside_undecodable(self, delivery: AbstractIncomingMessage) -> list[Message]:
        """Publish what cannot be decoded to the dead queue. Return the other messages."""
        messages, undecodable = unpack_each(delivery.body)
        if not messages:
            await self._deliveries.popleft().reject(requeue=False)
            return []
        for part in undecodable:
            dead = aio_pika.Message(b"[%s]" % part.body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await self._queue.channel.default_exchange.publish(dead, self._dead_queue)
        return messages

    def _pop_first(self) -> _MessageGroup:
        messages, self._decoded = self._decoded, []
        return _MessageGroup(messages, self._deliveries.popleft())
