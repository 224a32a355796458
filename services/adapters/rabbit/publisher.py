"""Handing messages to the broker, many at once and each confirmed."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractExchange

from services.adapters.rabbit.broker import EXCHANGE, SECONDS, Broker, Line, reaching
from services.adapters.wire import Letter, tag
from services.core.backoff import delays
from services.core.errors import Unavailable

WINDOW = 200  # letters on their way at once


class Publisher:
    """The one line on which this process publishes."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._stack = AsyncExitStack()
        self._line: Line | None = None
        self._connecting = asyncio.Lock()
        self._window = asyncio.Semaphore(WINDOW)
        self.kept = {kind for kinds in broker.queues.values() for kind in kinds}

    async def publish(self, letters: Sequence[Letter]) -> None:
        """Returns when the broker has them all. A lost line is replaced; raises Unavailable after a few seconds."""
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

    async def line(self) -> Line:
        """The line, a new one if the last is lost. Raises Unavailable."""
        async with self._connecting:
            if self._line is None or self._line.channel.is_closed:
                await self._stack.aclose()
                self._line = await self._stack.enter_async_context(self._broker.line())
            return self._line

    async def close(self) -> None:
        """Close the line."""
        await self._stack.aclose()

    async def _send(self, letters: Iterable[Letter]) -> list[Letter]:
        """Send in this order; answers what was not confirmed, and may or may not have arrived."""
        exchange = await (await self.line()).channel.get_exchange(EXCHANGE, ensure=False)
        trouble = await asyncio.gather(*(self._confirmed(exchange, letter) for letter in letters))
        return [letter for letter in trouble if letter]

    async def _confirmed(self, exchange: AbstractExchange, letter: Letter) -> Letter | None:
        mode = DeliveryMode.PERSISTENT if letter.kind in self.kept else DeliveryMode.NOT_PERSISTENT
        message = Message(letter.body, delivery_mode=mode)
        async with self._window:
            with suppress(Unavailable), reaching():
                await exchange.publish(message, f"{tag(letter.kind)}.{letter.partition}", mandatory=False)
                return None
        return letter
