"""The peers in Python, on uvloop. They begin to send at SIGUSR2.

python -m loadtest.fanout.python_servers broadcast|queues PORT SIZE PER_SECOND
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.server import ServerConnection, broadcast, serve

from loadtest import asgi
from loadtest.fanout import pacing


def message(size: int) -> str:
    """Return a message of `size` bytes with the current time in seconds of the monotonic clock."""
    head = f'{{"type":"price_update","close":"{time.monotonic():.6f}","padding":"'
    return f'{head.ljust(size - 2, "x")}"}}'


async def serve_by_broadcast(port: int, size: int, per_second: float) -> None:
    """Send with `broadcast`, as in the documentation of websockets."""

    async def wait_closed(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(wait_closed, "127.0.0.1", port, compression=None, backlog=4096) as server:
        async for _ in pacing.ticks_from_signal(per_second):
            broadcast(server.connections, message(size))


async def serve_by_queues(port: int, size: int, per_second: float) -> None:
    """Send from a plain FastAPI route with a queue per client."""
    app, queues = FastAPI(), set[asyncio.Queue[str]]()

    @app.websocket("/")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        queue = asyncio.Queue[str]()
        queues.add(queue)
        try:
            while True:
                await websocket.send_text(await queue.get())
        except WebSocketDisconnect:
            pass
        finally:
            queues.discard(queue)

    async def publish() -> None:
        async for _ in pacing.ticks_from_signal(per_second):
            text = message(size)
            for queue in queues:
                queue.put_nowait(text)

    async with asyncio.TaskGroup() as group:
        group.create_task(publish())
        group.create_task(asgi.serve(app, port))


SERVERS: dict[str, Callable[[int, int, float], Coroutine[Any, Any, None]]] = {
    "broadcast": serve_by_broadcast,
    "queues": serve_by_queues,
}


if __name__ == "__main__":
    way, port, size, per_second = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(SERVERS[way](int(port), int(size), float(per_second)))
