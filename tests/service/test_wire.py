"""The direct writer: direct and buffered writes arrive in order, with and without TLS, on both event loops."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import uvloop

from services.web import DirectWriter
from tests.tls import tls_contexts

PIECE_COUNT, MAX_PIECE_BYTES = 300, 200_000
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_direct_and_buffered_writes_arrive_in_order(
    loop: Callable[[], asyncio.AbstractEventLoop], encrypted: bool, tmp_path: Path
) -> None:
    random = Random(5)
    pieces = [random.randbytes(random.choice((1, 300, random.randrange(MAX_PIECE_BYTES)))) for _ in range(PIECE_COUNT)]
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(
            _received_bytes(pieces, random, tls_contexts(tmp_path) if encrypted else (None, None))
        ) == b"".join(pieces)


async def _received_bytes(
    pieces: list[bytes], random: Random, tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None]
) -> bytes:
    """Return what a client receives that reads more slowly than the server writes."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = DirectWriter(writer.transport)  # type: ignore[arg-type]
        for piece in pieces:
            if random.random() < 0.2:
                writer.transport.write(piece)
            else:
                assert wire.write(piece) == wire.buffered
            if random.random() < 0.3:
                await asyncio.sleep(random.choice((0, 0.001)))
        wire.close()
        assert wire.write(b"after the end") == 0

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls[0])
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls[1], limit=1024)
        received = bytearray()
        while piece := await reader.read(random.randrange(1, 50_000)):
            received += piece
        writer.close()
        return bytes(received)
