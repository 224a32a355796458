"""Hostile clients. Each attack is bounded in bytes, in requests and in time; what counts is what it makes Kurs do."""

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

MAX_ATTACK_SECONDS = 5  # of one attack at the most
PAUSE_SECONDS = 0.3  # between two attacks of one attacker
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
    """A TCP connection to the API; whatever the other end does to it is fine."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.host = f"{host}:{port}"

    async def __aenter__(self) -> "RawConnection":
        self.reader, self.writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send as much of it as the other end takes."""
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
        """Read what comes, to the end."""
        while await self.reader.read(65_536):
            pass


Attack = Callable[[RawConnection, Random], Awaitable[None]]


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, length: int | None = None) -> bytes:
    """A WebSocket frame; `length`: what it claims."""
    size = len(payload) if length is None else length
    head = bytes([opcode | (0x80 if final else 0)])
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += bytes([bit | 126]) + size.to_bytes(2)
    else:
        head += bytes([bit | 127]) + size.to_bytes(8)
    return head + (bytes(4) if masked else b"") + payload  # a mask of zeros changes nothing


async def many_symbols_and_indicators(connection: RawConnection, chance: Random) -> None:
    """Thousands of symbols times thousands of indicators, in one message."""
    await connection.upgrade()
    symbols = ",".join(f'"S{number}"' for number in range(4_000))
    indicators = ",".join(['"a"'] * 6_000)
    text = f'{{"action":"subscribe","symbols":[{symbols}],"timeframe":"1h","indicators":[{indicators}]}}'
    for _ in range(3):
        await connection.send(frame(1, text.encode()))
    await connection.drain()


async def pings_unread(connection: RawConnection, chance: Random) -> None:
    """Pings whose pongs are not read."""
    await connection.upgrade()
    pings = frame(9, b"x" * 100) * 500
    for _ in range(40):
        await connection.send(pings)


async def pages_unread(connection: RawConnection, chance: Random) -> None:
    """Hundreds of large responses, requested at once and not read."""
    request = f"GET /api/chart-data?symbol=BTCUSDT&timeframe=1m HTTP/1.1\r\nHost: {connection.host}\r\n\r\n"
    for _ in range(4):
        await connection.send(request.encode() * 50)
    await asyncio.sleep(1)


async def stream_with_requests_behind(connection: RawConnection, chance: Random) -> None:
    """A stream with requests behind it on the same connection, which then breaks."""
    await connection.get("/v1/stream?channels=courses")
    await connection.get("/livez")
    await connection.get("/v1/courses")
    await asyncio.sleep(chance.uniform(0, 0.5))


async def impossible_positions(connection: RawConnection, chance: Random) -> None:
    """Places to go on from that never were."""
    place = chance.choice(["0" * 17, "9" * 400, str(2**63), str(2**64 + 1), "-5", "١٢٣", "1,2,3", "1" * 19])
    await connection.get(f"/v1/stream?channels=btc_usd&after={quote(place)}", f"Last-Event-ID: {place}")
    await connection.get(f"/v1/stream/history?channels=btc_usd&after={quote(place)}")
    await asyncio.sleep(0.2)


async def impossible_socket_positions(connection: RawConnection, chance: Random) -> None:
    """The same on a WebSocket, and messages that are none."""
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


async def broken_frames(connection: RawConnection, chance: Random) -> None:
    """Frames that break the protocol."""
    await connection.upgrade()
    await connection.send(
        chance.choice(
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


async def garbage(connection: RawConnection, chance: Random) -> None:
    """Bytes that are no HTTP, or half of it."""
    await connection.send(
        chance.choice(
            [
                chance.randbytes(2_000),
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
    await asyncio.sleep(chance.uniform(0, 2))


async def bodies(connection: RawConnection, chance: Random) -> None:
    """Bodies where none is expected, packed and unpacked."""
    body = gzip.compress(b"\x00" * 1_000_000)
    head = f"POST {chance.choice(PATHS)} HTTP/1.1\r\nHost: [::1]\r\n"
    head += f"Content-Encoding: gzip\r\nContent-Length: {len(body)}"
    await connection.send(head.encode() + b"\r\n\r\n" + body)
    await asyncio.sleep(0.2)


async def random_requests(connection: RawConnection, chance: Random) -> None:
    """Any question with any words."""
    for _ in range(10):
        words = "&".join(
            f"{chance.choice(PARAMETERS)}={quote(chance.choice(NASTY_VALUES))}" for _ in range(chance.randint(0, 6))
        )
        await connection.get(f"{chance.choice(PATHS)}?{words}", "Accept-Encoding: gzip")
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            await connection.drain()


async def expensive_requests(connection: RawConnection, chance: Random) -> None:
    """Questions that are well-formed, each another one, and cost much."""
    since = chance.randint(1_502_942_400_000, time.time_ns() // 1_000_000)
    name, unknown = chance.choice(TIMEFRAMES), f"U{chance.randint(0, 10**9)}USDT"
    periods = ",".join(f"sma:{chance.randint(2, 200)}" for _ in range(10))
    for path in (
        "/api/candles/coverage",
        f"/api/candles/coverage?from=0&to={since}",
        f"/api/chart-data?symbol={unknown}&timeframe=1m",
        f"/api/chart-data?symbol=BTCUSDT&timeframe={name}&from={since}&limit=1000&fill=null",
        f"/api/indicators?symbol=BTCUSDT&timeframe={name}&indicators={periods}&limit=1000",
        f"/api/analysis?symbol=BTCUSDT&timeframe={name}&_={since}",
        f"/udf/history?symbol=BTCUSDT&resolution=1&from=0&to={since // 1000}&countback={chance.randint(1, 10**6)}",
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


async def attack(host: str, port: int, chance: Random) -> None:
    """One attack."""
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(MAX_ATTACK_SECONDS), RawConnection(host, port) as connection:
            await chance.choice(ATTACKS)(connection, chance)


async def attack_until(deadline: float, addresses: list[tuple[str, int]], chance: Random) -> int:
    """One attacker's attacks, one after the other; answers how many."""
    count = 0
    while time.monotonic() < deadline:
        await attack(*chance.choice(addresses), chance)
        await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS))
        count += 1
    return count


async def main(seconds: float, seed: int, ports: list[int]) -> int:
    """All attackers, on this machine alone."""
    deadline, addresses = time.monotonic() + seconds, [("127.0.0.1", port) for port in ports]
    chances = [random.Random(f"{seed} {number}") for number in range(ATTACKERS)]
    return sum(await asyncio.gather(*(attack_until(deadline, addresses, chance) for chance in chances)))


if __name__ == "__main__":  # a process of its own: attackers must not slow down the observer
    print(asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]])))
