"""Copying between two connections, for proxies in tests."""

import asyncio
import contextlib

LOOPBACK = "127.0.0.1"


async def copy_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write all that is read, then close the writer."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
