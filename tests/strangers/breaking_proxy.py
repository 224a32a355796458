"""A line to a server that breaks, as lines do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LOOPBACK = "127.0.0.1"
BREAK_AFTER_BYTES = 2_500  # bytes to the client, then a connection breaks in the middle of what it carries


class BreakingProxy:
    """Its address, and how many of its long answers will still be cut off."""

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
        """Cut all that is connected."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            answers, upstream = await asyncio.open_connection(LOOPBACK, self._port)
            requests = asyncio.create_task(_copy(reader, upstream))
            try:
                await self._forward_response(answers, writer)
            finally:
                requests.cancel()
                upstream.close()

    async def _forward_response(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried = 0
        while data := await answers.read(65_536):
            carried += len(data)
            if self.breaks_left and carried > BREAK_AFTER_BYTES:
                self.breaks_left -= 1
                writer.write(data[: len(data) // 2])
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def run_breaking_proxy(port: int, breaks: int = 2) -> AsyncIterator[BreakingProxy]:
    """A line to `port` whose first `breaks` long answers are cut off."""
    line = BreakingProxy(port, breaks)
    server = await line.open()
    try:
        yield line
    finally:
        server.close()
        await line.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
