"""Live streams through nginx and two replicas: over a thousand broken connections each entry arrives once."""

import asyncio
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import websockets

from tests.system import FAST_SETTINGS, System, single_process

CHANNELS = ("candles:BTCUSDT:1m", "candles:ETHUSDT:1m", "courses")
CLIENTS, CUTS = 10, 50  # of each protocol, and how often each is cut
LAST_SECONDS = 5  # of each further connection, until there was an entry of every channel
MAX_STOP_SECONDS = 30  # on a busy machine


class ClientRecord:
    """The seqs that a client has received of each channel, in their order."""

    def __init__(self) -> None:
        self.numbers: defaultdict[str, list[int]] = defaultdict(list)
        self.positions: dict[str, int] = {}  # of each channel
        self.others: list[str] = []  # messages that entries are missing

    def apply(self, channel: str, number: int, snapshot: bool) -> None:
        self.positions[channel] = number
        if not snapshot:
            self.numbers[channel].append(number)


async def test_clients_cut_a_thousand_times_get_every_entry_once(shared: System) -> None:
    async with httpx.AsyncClient(base_url=shared.url, timeout=20) as http:
        await wait_for_channels(http)
        clients = [(ClientRecord(), random.Random(number)) for number in range(2 * CLIENTS)]
        cutting = [follow_by_socket(shared.url, *each) for each in clients[:CLIENTS]]
        cutting += [follow_by_events(shared.url, *each) for each in clients[CLIENTS:]]
        await asyncio.gather(*cutting, kill_replica(shared))
        for record, _ in clients:
            assert not record.others
            for channel in CHANNELS:
                seen = record.numbers[channel]
                assert seen == await expected_seqs(http, channel, seen), channel


async def wait_for_channels(http: httpx.AsyncClient) -> None:
    """Wait until every channel has an entry."""
    async with asyncio.timeout(60):
        for channel in CHANNELS:
            while not (await history_page(http, channel, 0))["events"]:
                await asyncio.sleep(0.2)


async def history_page(http: httpx.AsyncClient, channel: str, after: int) -> Any:
    query = {"channels": channel, "after": str(after), "limit": "1000"}
    return (await http.get("/v1/stream/history", params=query)).raise_for_status().json()


async def expected_seqs(http: httpx.AsyncClient, channel: str, seen: list[int]) -> list[int]:
    """Return the seqs of a channel from the first to the last received one."""
    assert seen, f"nothing on {channel}"
    numbers, after = [seen[0]], seen[0]
    while numbers[-1] < seen[-1]:
        page = await history_page(http, channel, after)
        assert not page["reset"]
        numbers += [event["seq"] for event in page["events"]]
        after = int(page["cursor"])
    return [number for number in numbers if number <= seen[-1]]


async def kill_replica(system: System) -> None:
    """Kill and restart a replica while clients are connected."""
    await asyncio.sleep(3)
    await asyncio.to_thread(system.processes["api 1"].kill)
    await asyncio.to_thread(system.processes["api 1"].start)


def connection_seconds(record: ClientRecord, chance: random.Random) -> Iterator[float]:
    """Yield how long each connection lasts. On a busy machine the short ones may get nothing, hence the last."""
    for _ in range(CUTS):
        yield chance.uniform(0.02, 0.6)
    while not all(record.numbers[channel] for channel in CHANNELS):
        yield LAST_SECONDS


async def follow_by_socket(url: str, record: ClientRecord, chance: random.Random) -> None:
    for seconds in connection_seconds(record, chance):
        async with connect_socket(url.replace("http", "ws", 1)) as socket:
            query = {"action": "resume" if record.positions else "subscribe", "channels": CHANNELS}
            await socket.send(msgspec.json.encode({**query, "timer": 0, "after": positions(record)}).decode())
            with suppress(TimeoutError, websockets.ConnectionClosed):
                async with asyncio.timeout(seconds):
                    while True:
                        apply_message(record, msgspec.json.decode(await socket.recv()))
            socket.transport.abort()


def apply_message(record: ClientRecord, message: Any) -> None:
    match message["type"]:
        case "price_update":
            record.apply(f"candles:{message['symbol']}:{message['timeframe']}", message["seq"], snapshot=False)
        case "courses_update":
            record.apply("courses", message["seq"], snapshot=False)
        case "snapshot":
            record.apply(message["channel"], message["seq"], snapshot=True)
        case "reset" | "skipped" | "error" as other:
            record.others.append(f"{other}: {message}")


def positions(record: ClientRecord) -> list[int]:
    return [record.positions.get(channel, 0) for channel in CHANNELS] if record.positions else []


@asynccontextmanager
async def connect_socket(url: str) -> AsyncIterator[websockets.ClientConnection]:
    """Connect as soon as a replica accepts it."""
    async with asyncio.timeout(30):
        while True:
            try:
                socket = await websockets.connect(f"{url}/ws/chart-data", compression=None, max_queue=None)
                break
            except (OSError, websockets.InvalidHandshake, TimeoutError):
                await asyncio.sleep(0.1)
    try:
        yield socket
    finally:
        with suppress(websockets.ConnectionClosed):
            await socket.close()


async def follow_by_events(url: str, record: ClientRecord, chance: random.Random) -> None:
    last, place = "", urlsplit(url)
    for seconds in connection_seconds(record, chance):
        with suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                writer.write(
                    f"GET /v1/stream?channels={','.join(CHANNELS)}&timer=0 HTTP/1.1\r\nHost: {place.netloc}\r\n"
                    f"Last-Event-ID: {last}\r\n\r\n".encode()
                )
                async with asyncio.timeout(seconds):
                    head = await reader.readuntil(b"\r\n\r\n")
                    if b" 503 " in head:  # no replica is ready: retry, as over a WebSocket
                        assert b"\r\nRetry-After: 1\r\n" in head
                        continue
                    assert b" 200 " in head
                    async for event in read_events(reader):
                        last = apply_event(record, event) or last
            finally:
                writer.transport.abort()


async def read_events(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield the events of a chunked response. An event may be split over several chunks."""
    text = ""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        text += (await reader.readexactly(size + 2))[:-2].decode()
        *whole, text = text.split("\n\n")
        for event in whole:
            yield event


def apply_event(record: ClientRecord, text: str) -> str:
    """Apply an event and return its id."""
    fields = dict(line.partition(": ")[::2] for line in text.splitlines())
    name = fields.get("event", "")
    if name in ("reset", "skipped"):
        record.others.append(text)
    if name not in CHANNELS:
        return ""
    data = msgspec.json.decode(fields["data"])
    record.apply(name, data["seq"], data.get("snapshot", False))
    return fields["id"]


def test_signal_ends_a_process_with_clients_and_closes_their_connections(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with single_process(tmp_path_factory.mktemp("stopping"), {**FAST_SETTINGS, "KURS_HISTORY_BARS": "0"}) as system:
        process = system.processes["kurs"]
        codes = asyncio.run(close_codes(system.url, lambda: process.process.send_signal(signal.SIGTERM)))  # type: ignore[union-attr]
        begun = time.monotonic()
        assert process.process
        assert process.process.wait(MAX_STOP_SECONDS) == 0
        assert time.monotonic() - begun < MAX_STOP_SECONDS
        assert codes == [4000] * 20
        assert "Traceback" not in process.log()


async def close_codes(url: str, stop: Any) -> list[int | None]:
    """Return the closing codes of twenty clients, beside one that reads nothing and one that only connects."""
    place = urlsplit(url)
    idle = [await asyncio.open_connection(place.hostname, place.port) for _ in range(2)]
    idle[0][1].write(f"GET /v1/stream?channels=courses HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    await idle[0][0].readuntil(b"\r\n\r\n")
    sockets = [await websockets.connect(f"ws://{place.netloc}/ws/chart-data") for _ in range(20)]
    for socket in sockets:
        await socket.send('{"action":"subscribe","channels":["courses"]}')
        await socket.recv()
    stop()
    codes = await asyncio.gather(*(close_code(socket) for socket in sockets))
    for _, writer in idle:
        writer.transport.abort()
    return codes


async def close_code(socket: websockets.ClientConnection) -> int | None:
    await wait_for_close(socket)
    return socket.close_code


async def wait_for_close(socket: websockets.ClientConnection) -> None:
    with suppress(websockets.ConnectionClosed):
        while True:
            await socket.recv()
