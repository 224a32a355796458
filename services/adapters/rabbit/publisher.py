"""Handing messages to the broker, many at once and each confirmed, but for what is soon said again."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple

from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractConnection
from pamqp.commands import Basic

from services.adapters.codec import Letter, tag
from services.adapters.rabbit.broker import SECONDS, Broker, reaching
from services.core.backoff import delays
from services.core.errors import Unavailable
from services.ports import REPEATED

WINDOW = 200  # letters on their way at once


class _Line(NamedTuple):
    connection: AbstractConnection
    confirmed: AbstractChannel
    swift: AbstractChannel  # the broker does not confirm what comes by it

    @property
    def lost(self) -> bool:
        return bool(self.confirmed.is_closed or self.swift.is_closed)


class Publisher:
    """The one line on which this process publishes."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._exchange = broker, broker.exchange
        self._stack = AsyncExitStack()
        self._line: _Line | None = None
        self._connecting = asyncio.Lock()
        self._window = asyncio.Semaphore(WINDOW)
        self.kept = {kind for kinds in broker.queues.values() for kind in kinds}
        self._unconfirmed = set(REPEATED) - self.kept

    async def publish(self, letters: Sequence[Letter]) -> None:
        """Returns when the broker has them all; what is soon said again is on its way.

        A lost line is replaced; raises Unavailable after a few seconds.
        """
        trouble = "the bus (RabbitMQ) does not confirm"
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                for delay in delays(0.05, 1):
                    try:
                        letters = await self._send(letters)
                    except Unavailable as error:
                        trouble = str(error)
                    if not letters:
                        return
                    await asyncio.sleep(delay)
        raise Unavailable(trouble)

    async def connection(self) -> AbstractConnection:
        """The line's. Raises Unavailable."""
        return (await self._connected()).connection

    async def close(self) -> None:
        """Close the line."""
        await self._stack.aclose()

    async def _connected(self) -> _Line:
        """The line, a new one if the last is lost. Raises Unavailable."""
        async with self._connecting:
            if self._line is None or self._line.lost:
                await self._stack.aclose()
                connection, channel = await self._stack.enter_async_context(self._broker.line())
                with reaching():
                    self._line = _Line(connection, channel, await connection.channel(publisher_confirms=False))
            return self._line

    async def _send(self, letters: Iterable[Letter]) -> list[Letter]:
        """Send in this order; answers what was not taken, and may or may not have arrived."""
        line, unsent, others = await self._connected(), list[Letter](), list[Letter]()
        for letter in letters:
            if letter.kind not in self._unconfirmed:
                others.append(letter)
            elif not await self._sent(line.swift, letter, DeliveryMode.NOT_PERSISTENT):
                unsent.append(letter)
        outcomes = await asyncio.gather(*(self._confirmed(line, letter) for letter in others)) if others else []
        return [*unsent, *(letter for letter, done in zip(others, outcomes, strict=True) if not done)]

    async def _confirmed(self, line: _Line, letter: Letter) -> bool:
        mode = DeliveryMode.PERSISTENT if letter.kind in self.kept else DeliveryMode.NOT_PERSISTENT
        async with self._window:
            return await self._sent(line.confirmed, letter, mode)

    async def _sent(self, channel: AbstractChannel, letter: Letter, mode: DeliveryMode) -> bool:
        """Past aio-pika's own messages, which cost as much again as the letter on its way."""
        with suppress(Unavailable), reaching():
            wire, key = await channel.get_underlay_channel(), f"{tag(letter.kind)}.{letter.partition}"
            properties = Basic.Properties(delivery_mode=mode)
            await wire.basic_publish(letter.body, exchange=self._exchange, routing_key=key, properties=properties)
            return True
        return False
