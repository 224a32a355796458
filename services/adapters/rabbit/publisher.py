"""Publishing to the broker: many batches at once, each confirmed except those of kinds that are soon repeated."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import NamedTuple

from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractConnection
from pamqp.commands import Basic

from services.adapters.codec import Batch, kind_name
from services.adapters.rabbit.broker import TIMEOUT_SECONDS, Broker, translate_errors
from services.core.backoff import delays
from services.core.errors import Unavailable
from services.ports import UNCONFIRMED_KINDS

MAX_UNCONFIRMED_BATCHES = 200  # on their way at once


class _Channels(NamedTuple):
    connection: AbstractConnection
    confirmed: AbstractChannel
    unconfirmed: AbstractChannel  # the broker confirms nothing that is published on it

    @property
    def is_lost(self) -> bool:
        return bool(self.confirmed.is_closed or self.unconfirmed.is_closed)


class Publisher:
    """The connection on which this process publishes."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._exchange = broker, broker.exchange
        self._stack = AsyncExitStack()
        self._channels: _Channels | None = None
        self._connect_lock = asyncio.Lock()
        self._in_flight = asyncio.Semaphore(MAX_UNCONFIRMED_BATCHES)
        self.queued_kinds = {kind for kinds in broker.queues.values() for kind in kinds}
        self._unconfirmed_kinds = set(UNCONFIRMED_KINDS) - self.queued_kinds

    async def publish(self, batches: Sequence[Batch]) -> None:
        """Publish batches. Returns when the broker has confirmed all whose kinds are confirmed.

        A lost connection is replaced. Raises Unavailable after a few seconds.
        """
        reason = "the bus (RabbitMQ) does not confirm"
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                for delay in delays(0.05, 1):
                    try:
                        batches = await self._publish_all(batches)
                    except Unavailable as error:
                        reason = str(error)
                    if not batches:
                        return
                    await asyncio.sleep(delay)
        raise Unavailable(reason)

    async def connection(self) -> AbstractConnection:
        """Return the open connection. Raises Unavailable."""
        return (await self._open_channels()).connection

    async def close(self) -> None:
        """Close the connection."""
        await self._stack.aclose()

    async def _open_channels(self) -> _Channels:
        """Return the channels, new ones if the last are lost. Raises Unavailable."""
        async with self._connect_lock:
            if self._channels is None or self._channels.is_lost:
                await self._stack.aclose()
                connection, channel = await self._stack.enter_async_context(self._broker.connect())
                with translate_errors():
                    self._channels = _Channels(connection, channel, await connection.channel(publisher_confirms=False))
            return self._channels

    async def _publish_all(self, batches: Iterable[Batch]) -> list[Batch]:
        """Publish in this order. Return the batches without success, which may have arrived or not."""
        channels, unsent, to_confirm = await self._open_channels(), list[Batch](), list[Batch]()
        for batch in batches:
            if batch.kind not in self._unconfirmed_kinds:
                to_confirm.append(batch)
            elif not await self._try_publish(channels.unconfirmed, batch, DeliveryMode.NOT_PERSISTENT):
                unsent.append(batch)
        publishing = (self._publish_confirmed(channels, batch) for batch in to_confirm)
        outcomes = await asyncio.gather(*publishing) if to_confirm else []
        return [*unsent, *(batch for batch, done in zip(to_confirm, outcomes, strict=True) if not done)]

    async def _publish_confirmed(self, channels: _Channels, batch: Batch) -> bool:
        mode = DeliveryMode.PERSISTENT if batch.kind in self.queued_kinds else DeliveryMode.NOT_PERSISTENT
        async with self._in_flight:
            return await self._try_publish(channels.confirmed, batch, mode)

    async def _try_publish(self, channel: AbstractChannel, batch: Batch, mode: DeliveryMode) -> bool:
        """Publish a batch without aio-pika's message objects, which would double its cost."""
        with suppress(Unavailable), translate_errors():
            wire, key = await channel.get_underlay_channel(), f"{kind_name(batch.kind)}.{batch.partition}"
            properties = Basic.Properties(delivery_mode=mode)
            await wire.basic_publish(batch.body, exchange=self._exchange, routing_key=key, properties=properties)
            return True
        return False
