"""Hostile clients. Each attack is bounded in bytes, requests and time, because its effect on Kurs counts."""

import asyncio
import base64
import gzip
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from urllib.parse import quote

MAX_ATTACK_SECONDS = 5
PAUSE_SECONDS = 0.3  # at most, between two attacks of one attacker
ATTACKERS = 3
NASTY_VALUES = (
    *("", "0", "-1", "1e400", "NaN", "null", "true", "\x00", "'", '"', "%", "..", "{}", "[]", "💣", "á" * 50, "9" * 19),
    *("9" * 400, "0" * 17, "A" * 1_500, "BTCUSDT", "BTC-USDT," * 150, "sma:" + "9" * 300, "1970-01-01", "99999-01-01"),
)
PATHS = (
    *("/v1/courses", "/v2/courses", "/v1/directions", "/v1/exchanges", "/api/chart-data", "/api/candles/coverage"),
    *("/api/symbols", "/api/timeframes", "/api/indicators", "/api/analysis", "/api/analysis/BTCUSDT/multi"),
    *("/v1/stream/history", "/udf/history", "/udf/search", "/udf/symbols", "/docs", "/openapi.json", "/nothing"),
)
PARAMETERS = (
    *("direction", "base", "quote", "exchanger", "symbol", "timeframe", "exchange", "from", "to", "limit", "fill"),
    *("indicators", "channels", "after", "timer", "resolution", "countback", "query", "timeframes", "no_such_name"),
)
TIMEFRAMES = ("1m", "5m", "1h", "1d", "1M", "7m")


class RawConnection:
    """A TCP connection to the API."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.host = f"{host}:{port}"

    async def __aenter__(self) -> "RawConnection":
        self.reader, self.writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait while the buffer is full."""
        self.writer.write(data)
        await self.writer.drain()

    async def get(self, path: str, *headers: str) -> None:
        """Request a path."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {self.host}", *headers, "", ""]
        await self.send("\r\n".join(lines).encode())

    async def upgrade(self, path: str = "/ws/chart-data") -> None:
        """Open a WebSocket."""
        key = base64.b64encode(os.urandom(16)).decode()
        await self.get(
            path, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"
        )
        await self.reader.readuntil(b"\r\n\r\n")

    async def drain(self) -> None:
        """Read and discard until the end of the stream."""
        while await self.reader.read(65_536):
            pass


Attack = Callable[[RawConnection, Random], Awaitable[None]]


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, length: int | None = None) -> bytes:
    """Return a WebSocket frame. `length`: the length that it claims, instead of the real one."""
    size = len(payload) if length is None else length
    head = bytes([opcode | (0x80 if final else 0)])
    mask_bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 65_536:
        head += bytes([mask_bit | 126]) + size.to_bytes(2)
    else:
        head += bytes([mask_bit | 127]) + size.to_bytes(8)
    return head + (bytes(4) if masked else b"") + payload  # a mask of zeros changes nothing


async def many_symbols_and_indicators(connection: RawConnection, rng: Random) -> None:
    """Subscribe to thousands of symbols times thousands of indicators in one message."""
    await connection.upgrade()
    symbols = ",".join(f'"S{number}"' for number in range(4_000))
    indicators = ",".join(['"a"'] * 6_000)
    text = f'{{"action":"subscribe","symbols":[{symbols}],"timeframe":"1h","indicators":[{indicators}]}}'
    for _ in range(3):
        await connection.send(frame(1, text.encode()))
    await connection.drain()


async def pings_unread(connection: RawConnection, rng: Random) -> None:
    """Send pings without reading the pongs."""
    await connection.upgrade()
    pings = frame(9, b"x" * 100) * 500
    for _ in range(40):
        await connection.send(pings)


async def pages_unread(connection: RawConnection, rng: Random) -> None:
    """Request hundreds of large responses at once without reading them."""
    request = f"GET /api/chart-data?symbol=BTCUSDT&timeframe=1m HTTP/1.1\r\nHost: {connection.host}\r\n\r\n"
    for _ in range(4):
        await connection.send(request.encode() * 50)
    await asyncio.sleep(1)


async def stream_with_requests_behind(connection: RawConnection, rng: Random) -> None:
    """Request a stream, send more requests on the same connection, and disconnect."""
    await connection.get("/v1/stream?channels=courses")
    await connection.get("/livez")
    await connection.get("/v1/courses")
    await asyncio.sleep(rng.uniform(0, 0.5))


async def impossible_positions(connection: RawConnection, rng: Random) -> None:
    """Resume streams from positions that never existed."""
    position = rng.choice(["0" * 17, "9" * 400, str(2**63), str(2**64 + 1), "-5", "١٢٣", "1,2,3", "1" * 19])
    await connection.get(f"/v1/stream?channels=btc_usd&after={quote(position)}", f"Last-Event-ID: {position}")
    await connection.get(f"/v1/stream/history?channels=btc_usd&after={quote(position)}")
    await asyncio.sleep(0.2)


async def impossible_socket_positions(connection: RawConnection, rng: Random) -> None:
    """Resume from such positions on a WebSocket, and send malformed messages."""
    await connection.upgrade()
    for text in (
        '{"action":"resume","channels":["btc_usd"],"after":"' + "9" * 400 + '"}',
        '{"action":"resume","channels":["btc_usd"],"after":[' + ",".join(["1"] * 5_000) + "]}",
        '{"action":"subscribe","channels":' + "[" * 20_000 + "]" * 20_000 + "}",
        '{"action":"subscribe","symbol":"\\u0000","timeframe":"1m","timer":1e400}',
        '{"action":"subscribe","channels":["indicators:BTCUSDT:1h:' + "sma:" * 5_000 + '"]}',
        "{" * 1_000,
    ):
        await connection.send(frame(1, text.encode()))
    await asyncio.sleep(0.5)


async def broken_frames(connection: RawConnection, rng: Random) -> None:
    """Send frames that violate the protocol."""
    await connection.upgrade()
    await connection.send(
        rng.choice(
            [
                frame(1, b"x", length=2**62),
                frame(3, b"reserved"),
                frame(1, b"unmasked", masked=False),
                frame(1, b"never", final=False) + frame(0, b"-", final=False) * 5_000,
                frame(8, b"\x00"),
                frame(1, b"\xff\xfe"),
                frame(9, b"x" * 126),
                frame(1, b"") * 5_000,
            ]
        )
    )
    await connection.drain()


async def garbage(connection: RawConnection, rng: Random) -> None:
    """Send bytes that are not HTTP, or a part of a request."""
    await connection.send(
        rng.choice(
            [
                rng.randbytes(2_000),
                b"GET /v1/courses HTTP/1.1\r\nHost: localhost\r\n",
                b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: " + b"h" * 70_000 + b"\r\n\r\n",
                b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ]
        )
    )
    await asyncio.sleep(rng.uniform(0, 2))


async def bodies(connection: RawConnection, rng: Random) -> None:
    """Send a compressed body where none is expected."""
    body = gzip.compress(b"\x00" * 1_000_000)
    head = f"POST {rng.choice(PATHS)} HTTP/1.1\r\nHost: [::1]\r\n"
    head += f"Content-Encoding: gzip\r\nContent-Length: {len(body)}"
    await connection.send(head.encode() + b"\r\n\r\n" + body)
    await asyncio.sleep(0.2)


async def random_requests(connection: RawConnection, rng: Random) -> None:
    """Request random paths with random parameters."""
    for _ in range(10):
        words = "&".join(
            f"{rng.choice(PARAMETERS)}={quote(rng.choice(NASTY_VALUES))}" for _ in range(rng.randint(0, 6))
        )
        await connection.get(f"{rng.choice(PATHS)}?{words}", "Accept-Encoding: gzip")
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            await connection.drain()


async def expensive_requests(connection: RawConnection, rng: Random) -> None:
    """Send valid requests that are expensive and differ each time."""
    since = rng.randint(1_502_942_400_000, time.time_ns() // 1_000_000)
    name, unknown = rng.choice(TIMEFRAMES), f"U{rng.randint(0, 10**9)}USDT"
    periods = ",".join(f"sma:{rng.randint(2, 200)}" for _ in range(10))
    for path in (
        "/api/candles/coverage",
        f"/api/candles/coverage?from=0&to={since}",
        f"/api/chart-data?symbol={unknown}&timeframe=1m",
        f"/api/chart-data?symbol=BTCUSDT&timeframe={name}&from={since}&limit=1000&fill=null",
        f"/api/indicators?symbol=BTCUSDT&timeframe={name}&indicators={periods}&limit=1000",
        f"/api/analysis?symbol=BTCUSDT&timeframe={name}&_={since}",
        f"/udf/history?symbol=BTCUSDT&resolution=1&from=0&to={since // 1000}&countback={rng.randint(1, 10**6)}",
    ):
        await connection.get(path)
    with suppress(TimeoutError):
        async with asyncio.timeout(3):
            await connection.drain()


ATTACKS: tuple[Attack, ...] = (
    *(
        many_symbols_and_indicators,
        pings_unread,
        pages_unread,
        stream_with_requests_behind,
        impossible_positions,
        impossible_socket_positions,
        broken_frames,
    ),
    *(garbage, bodies, random_requests, expensive_requests),
)


async def attack(host: str, port: int, rng: Random) -> None:
    """Run one random attack."""
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(MAX_ATTACK_SECONDS), RawConnection(host, port) as connection:
            await rng.choice(ATTACKS)(connection, rng)


async def attack_until(deadline: float, addresses: list[tuple[str, int]], rng: Random) -> int:
    """Run attacks one after the other until the deadline. Return their number."""
    count = 0
    while time.monotonic() < deadline:
        await attack(*rng.choice(addresses), rng)
        await asyncio.sleep(rng.uniform(0, PAUSE_SECONDS))
        count += 1
    return count


async def main(seconds: float, seed: int, ports: list[int]) -> int:
    """Run all attackers against ports of this machine. Return the number of attacks."""
    deadline, addresses = time.monotonic() + seconds, [("127.0.0.1", port) for port in ports]
    rngs = [random.Random(f"{seed} {number}") for number in range(ATTACKERS)]
    return sum(await asyncio.gather(*(attack_until(deadline, addresses, rng) for rng in rngs)))


if __name__ == "__main__":  # as a process, so that attackers do not slow down the honest client
    print(asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]])))
