"""HTTP requests and responses as bytes, for tests of what a client library would hide."""

import asyncio

UPGRADE_HEADERS = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Version": "13",
}


async def exchange_bytes(address: str, sent: bytes) -> bytes:
    """Send bytes on a connection, and return the response until the server closes it."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def encode_request(line: str, **headers: str) -> bytes:
    rows = [line, "Host: localhost", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*rows, "", ""]).encode()
