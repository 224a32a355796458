"""A worker's place at a work queue."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import msgspec
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from services.adapters.rabbit.broker import reaching
from services.adapters.wire import unpack
from services.core.model import Message

log = logging.getLogger("kurs.bus")


class _Delivery(NamedTuple):
    letter: AbstractIncomingMessage
    messages: list[Message]

    @property
    def tried(self) -> bool:
        return bool(self.letter.redelivered)


class Desk:
    """Letters of one queue, for as long as one line lives.

    What was given back comes first, and is fetched one by one: whatever else is delivered when it fails once more would
    count as failed with it.
    """

    def __init__(self, queue: AbstractQueue, size: int) -> None:
        self._queue, self._size = queue, size
        self._waiting: deque[_Delivery] = deque()
        self._changed = asyncio.Event()
        self._careful, self._lost = True, False
        self._due: AbstractIncomingMessage | None = None

    async def batches(self) -> AsyncGenerator[Sequence[Message], None]:
        """Up to `size` messages at a time, each batch settled when the next is asked for. Raises Unavailable."""
        with reaching():
            while True:
                await self._fill()
                letter, messages = self._take()
                *first, last = (messages[at : at + self._size] for at in range(0, len(messages), self._size))
                for batch in first:
                    yield batch
                self._due = letter  # its messages are handed out with this batch, all of them
                yield last
                await self.settle()

    async def settle(self) -> None:
        """What was handed out is done. Raises Unavailable."""
        letter, self._due = self._due, None
        if letter:
            with reaching():
                await letter.ack(multiple=True)

    def close(self) -> None:
        """The line is lost, and with it what waits here: it will come again on another."""
        self._lost = True
        self._changed.set()

    async def _fill(self) -> None:
        while not self._lost and not self._waiting:
            if self._careful:
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
            self._careful = False
            await self._queue.consume(self._receive)

    async def _receive(self, letter: AbstractIncomingMessage) -> None:
        try:
            self._waiting.append(_Delivery(letter, unpack(letter.body)))
            self._changed.set()
        except msgspec.MsgspecError as error:
            log.error("a message in %s cannot be read and goes to the dead: %s", self._queue.name, error)
            await letter.reject(requeue=False)

    def _take(self) -> _Delivery:
        """The next batch: its messages and the letter that ends it."""
        last = self._waiting.popleft()
        messages = last.messages
        while self._waiting and not last.tried and not self._waiting[0].tried:
            if len(messages) + len(self._waiting[0].messages) > self._size:
                break
            last = self._waiting.popleft()
            messages = messages + last.messages
        return _Delivery(last.letter, messages)
