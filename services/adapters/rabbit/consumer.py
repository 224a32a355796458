"""A worker's place at a work queue."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from services.adapters.codec import unpack, unpack_each
from services.adapters.rabbit.broker import translate_errors
from services.core.bounds import clean_text
from services.core.model import Message

log = logging.getLogger("kurs.bus")


class _MessageGroup(NamedTuple):
    messages: list[Message]
    last: AbstractIncomingMessage  # the letter that ends it


class BatchConsumer:
    """Letters of one queue, for as long as one line lives.

    What was given back comes first, and is fetched one by one: whatever else is delivered when it fails once more would
    count as failed with it.
    """

    def __init__(self, queue: AbstractQueue, dead: str, size: int) -> None:
        self._queue, self._dead_queue, self._size = queue, dead, size
        self._deliveries: deque[AbstractIncomingMessage] = deque()
        self._decoded: list[Message] = []  # what is in the first of them, once that is known
        self._changed = asyncio.Event()
        self._one_by_one, self._lost = True, False
        self._unacked: AbstractIncomingMessage | None = None

    async def batches(self) -> AsyncGenerator[Sequence[Message], None]:
        """Up to `size` messages at a time, each batch settled when the next is asked for. Raises Unavailable."""
        with translate_errors():
            while True:
                messages, letter = await self._next_group()
                *first, last = (messages[at : at + self._size] for at in range(0, len(messages), self._size))
                for batch in first:
                    yield batch
                self._unacked = letter  # its messages are handed out with this batch, all of them
                yield last
                await self.ack()

    async def ack(self) -> None:
        """What was handed out is done. Raises Unavailable."""
        letter, self._unacked = self._unacked, None
        if letter:
            with translate_errors():
                await letter.ack(multiple=True)

    def close(self) -> None:
        """The line is lost, and with it what waits here: it will come again on another."""
        self._lost = True
        self._changed.set()

    async def _wait_for_delivery(self) -> None:
        while not self._lost and not self._deliveries:
            if self._one_by_one:
                await self._fetch()
            else:
                self._changed.clear()
                await self._changed.wait()
        if self._lost:
            raise ConnectionError("the connection is lost")

    async def _fetch(self) -> None:
        letter = await self._queue.get(fail=False)
        if letter:
            await self._receive(letter)
        if not letter or not letter.redelivered:
            self._one_by_one = False
            await self._queue.consume(self._receive)

    async def _receive(self, letter: AbstractIncomingMessage) -> None:
        """It stays closed until its turn: a thousand full ones take ten times the room when they are open."""
        self._deliveries.append(letter)
        self._changed.set()

    async def _next_group(self) -> _MessageGroup:
        """The next batch: as many letters as fit, and one at least."""
        await self._wait_for_delivery()
        while not await self._decode_first():
            await self._wait_for_delivery()
        messages, last = self._pop_first()
        while not last.redelivered and (more := await self._decode_first()) and not self._deliveries[0].redelivered:
            if len(messages) + len(more) > self._size:
                break
            messages.extend(more)
            _, last = self._pop_first()
        return _MessageGroup(messages, last)

    async def _decode_first(self) -> list[Message]:
        """What is in the first letter that can be read; nothing when none is here."""
        while self._deliveries and not self._decoded:
            try:
                self._decoded = unpack(self._deliveries[0].body)
            except ValueError as error:
                log.error(
                    "a message in %s cannot be read and goes to the dead: %s", self._queue.name, clean_text(str(error))
                )
                self._decoded = await self._set_aside_undecodable(self._deliveries[0])
        return self._decoded

    async def _set_aside_undecodable(self, letter: AbstractIncomingMessage) -> list[Message]:
        """Set aside what of a letter cannot be read; answers the rest."""
        messages, unreadable = unpack_each(letter.body)
        if not messages:
            await self._deliveries.popleft().reject(requeue=False)
            return []
        for part in unreadable:
            dead = aio_pika.Message(b"[%s]" % part.body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await self._queue.channel.default_exchange.publish(dead, self._dead_queue)
        return messages

    def _pop_first(self) -> _MessageGroup:
        opened, self._decoded = self._decoded, []
        return _MessageGroup(opened, self._deliveries.popleft())
