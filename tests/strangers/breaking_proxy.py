"""A proxy whose connections break."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.relay import LOOPBACK, copy_stream

BREAK_AFTER_BYTES = 2_500  # to the client; then a connection breaks in the middle of a read


class BreakingProxy:
    """A proxy that cuts off its first long responses."""

    def __init__(self, port: int, breaks: int) -> None:
        self._port, self.breaks_left = port, breaks
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    async def open(self) -> asyncio.Server:
        """Listen on a free port."""
        server = await asyncio.start_server(self._connected, LOOPBACK, 0)
        self.address = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        return server

    async def close(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            responses, upstream = await asyncio.open_connection(LOOPBACK, self._port)
            requests = asyncio.create_task(copy_stream(reader, upstream))
            try:
                await self._forward_response(responses, writer)
            finally:
                requests.cancel()
                upstream.close()

    async def _forward_response(self, responses: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while data := await responses.read(65_536):
            sent += len(data)
            if self.breaks_left and sent > BREAK_AFTER_BYTES:
                self.breaks_left -= 1
                writer.write(data[: len(data) // 2])
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def run_breaking_proxy(port: int, breaks: int = 2) -> AsyncIterator[BreakingProxy]:
    """Run a proxy of `port` that cuts off its first `breaks` long responses."""
    proxy = BreakingProxy(port, breaks)
    server = await proxy.open()
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
