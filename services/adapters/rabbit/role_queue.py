"""Roles at the broker: the process that holds one owns an exclusive queue, which is deleted with its connection."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelLockedResource

from services.adapters.rabbit.broker import Broker, on_loss, translate_errors
from services.adapters.retry import retry_until_available
from services.core.errors import Unavailable
from services.leases import Lease

ROLE_HEARTBEAT_SECONDS = 3  # a holder that misses two or three is dead, and a standby takes over
LEASE_SECONDS = 5  # after a renewal; the broker takes longer to release the queue of a dead holder
RENEW_SECONDS = 1
RETRY_SECONDS = 0.5
HOLDER_TIMEOUT_SECONDS = 2  # for the holder's name
ROLE_KEY, ANSWER_KEY = "role", "answer"  # first words of routing keys
PROCESS_NAME = f"process {os.getpid()} on {socket.gethostname()}"


@asynccontextmanager
async def hold_role(broker: Broker, role: str, on_wait: Callable[[str], None]) -> AsyncIterator[Lease]:
    """Hold a role as soon as no other process does."""
    async with AsyncExitStack() as stack:
        yield await retry_until_available(
            partial(_acquire, broker, broker.market_name(f"{ROLE_KEY}.{role}"), on_wait, stack)
        )


async def own_queue(channel: AbstractChannel, name: str) -> bool:
    """Own a queue while the channel's connection lives. Return False, with the channel closed, if another does."""
    try:
        await channel.declare_queue(name, exclusive=True)
    except ChannelLockedResource:
        return False
    return True


async def _acquire(broker: Broker, name: str, on_wait: Callable[[str], None], stack: AsyncExitStack) -> Lease:
    await stack.aclose()
    connection, channel = await stack.enter_async_context(broker.connect(ROLE_HEARTBEAT_SECONDS))
    lease, reported = Lease(LEASE_SECONDS), False
    with translate_errors():
        while not await own_queue(channel, name):
            if not reported:
                reported = True
                on_wait(await _holder(broker, connection, name))
            await asyncio.sleep(RETRY_SECONDS)
            channel = await connection.channel()
        await on_loss(channel, lease.lost.set)
        wire = await channel.get_underlay_channel()
        await wire.queue_bind(name, broker.exchange, name)

        async def reply(request: DeliveredMessage) -> None:
            reply_to = request.header.properties.reply_to or ""
            await wire.basic_publish(PROCESS_NAME.encode(), exchange=broker.exchange, routing_key=reply_to)

        await wire.basic_consume(name, reply, no_ack=True)  # also detects that the queue was deleted
    proving = asyncio.create_task(_renew(channel, name, lease), name="role")
    stack.callback(proving.cancel)
    return lease


async def _renew(channel: AbstractChannel, name: str, lease: Lease) -> None:
    try:
        while True:
            asked_at = time.monotonic()
            with translate_errors():
                await channel.declare_queue(name, exclusive=True, passive=True)
            lease.renew(asked_at)
            await asyncio.sleep(RENEW_SECONDS)
    except Unavailable:
        lease.lost.set()


async def _holder(broker: Broker, connection: AbstractConnection, name: str) -> str:
    """Return the holder's name, if it replies. The default exchange is not used: it would reach every queue."""
    async with connection.channel() as channel:
        reply_queue = await channel.declare_queue(exclusive=True)
        await reply_queue.bind(broker.exchange, f"{ANSWER_KEY}.{reply_queue.name}")
        exchange = await channel.get_exchange(broker.exchange, ensure=False)
        await exchange.publish(aio_pika.Message(b"holder?", reply_to=f"{ANSWER_KEY}.{reply_queue.name}"), name)
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLDER_TIMEOUT_SECONDS), reply_queue.iterator(no_ack=True) as replies:
                async for reply in replies:
                    return reply.body.decode(errors="replace")
    return "a process that does not respond"
