"""A proxy for CONNECT, SOCKS4 and SOCKS5 on one port. It connects every target to one port of this machine."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.relay import LOOPBACK, copy_stream


@dataclass
class ProxyLog:
    """The targets and users that a proxy has seen."""

    port: int
    targets: list[str] = field(default_factory=list)  # as in "CONNECT exchange.example:443", "SOCKS5 …"
    users: set[str] = field(default_factory=set)  # user:password


@asynccontextmanager
async def run_proxy(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[ProxyLog]:
    """Run a proxy on a free port that connects every target to `port` of this machine."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            first = await reader.readexactly(1)
            kind = {b"\x05": _socks5, b"\x04": _socks4}.get(first, _connect)
            await kind(seen, reader, writer, first)
            there, back = await asyncio.open_connection(LOOPBACK, port)
            await asyncio.gather(copy_stream(reader, back), copy_stream(there, writer))
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=tls)
    seen = ProxyLog(server.sockets[0].getsockname()[1])
    async with server:
        yield seen


async def _connect(seen: ProxyLog, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
    for line in head.splitlines():
        name, _, value = line.partition(": ")
        if name.lower() == "proxy-authorization":
            seen.users.add(base64.b64decode(value.removeprefix("Basic ")).decode())
    seen.targets.append(" ".join(head.split()[:2]))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")


async def _socks5(seen: ProxyLog, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> None:
    methods = await reader.readexactly((await reader.readexactly(1))[0])
    writer.write(b"\x05\x02" if 2 in methods else b"\x05\x00")
    if 2 in methods:
        await reader.readexactly(1)
        user, password = await _read_prefixed(reader), await _read_prefixed(reader)
        seen.users.add(f"{user}:{password}")
        writer.write(b"\x01\x00")
    kind = (await reader.readexactly(4))[3]
    host = await _read_prefixed(reader) if kind == 3 else ".".join(map(str, await reader.readexactly(4)))
    seen.targets.append(f"SOCKS5 {host}:{int.from_bytes(await reader.readexactly(2))}")
    writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")


async def _socks4(seen: ProxyLog, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> None:
    _, port, address = await reader.readexactly(1), await reader.readexactly(2), await reader.readexactly(4)
    user = (await reader.readuntil(b"\0"))[:-1].decode()
    named = address[:3] == b"\0\0\0"
    host = (await reader.readuntil(b"\0"))[:-1].decode() if named else ".".join(map(str, address))
    seen.users.add(user)
    seen.targets.append(f"SOCKS4 {host}:{int.from_bytes(port)}")
    writer.write(b"\x00\x5a" + bytes(6))


async def _read_prefixed(reader: asyncio.StreamReader) -> str:
    return (await reader.readexactly((await reader.readexactly(1))[0])).decode()
