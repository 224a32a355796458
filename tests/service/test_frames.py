"""A WebSocket connection that returns all buffered messages at once."""

import asyncio
from contextlib import suppress
from typing import cast

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedOK

from services.collector.batch_connection import MAX_BUFFERED_MESSAGES, BatchConnection

MESSAGES = [f"{number} " + "x" * (number % 400) for number in range(20 * MAX_BUFFERED_MESSAGES)]
FRAGMENTS = ["in ", "several ", "parts"]


async def send_all(socket: ServerConnection) -> None:
    """Send all messages as fast as they are read, one of them in fragments."""
    for message in MESSAGES:
        await socket.send(message)
    await socket.send(FRAGMENTS)
    await socket.ping()
    await socket.send(b"bytes")


async def test_batches_have_all_messages_once_in_order_and_are_bounded() -> None:
    received, most = list[str](), 0
    async with serve(send_all, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", create_connection=BatchConnection, compression=None) as socket:
            await asyncio.sleep(0.2)  # in which more arrives than the buffer holds
            with suppress(ConnectionClosedOK):
                while messages := await cast("BatchConnection", socket).recv_batch():
                    received += [message.decode() for message in messages]
                    most = max(most, len(messages))
    assert socket.close_code == 1000
    assert received == [*MESSAGES, "".join(FRAGMENTS), "bytes"]
    assert most < 5 * MAX_BUFFERED_MESSAGES  # one read may exceed the limit
