"""The simulator at a time and a speed of our choice, and a client of its sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import websockets
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection

from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.hub import Hub
from services.ports import Deps
from services.settings import Settings
from services.simulator import ROUTERS
from tests.simulator import SimulatorServer, serve_app

FRAMES_FOLDER = Path(__file__).parent / "frames"
MONDAY_MS = 1_795_392_000_000  # 2026-11-23, midnight


class FastClock:
    """A clock that starts where we say and runs as fast as we say."""

    def __init__(self, start: int, speed: float) -> None:
        self._start, self._speed, self._began = start, speed, time.monotonic()

    def now(self) -> int:
        return self._start + round((time.monotonic() - self._began) * 1000 * self._speed)

    def monotonic(self) -> int:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)


def simulator_app(start: int = MONDAY_MS, speed: float = 1, **settings: Any) -> FastAPI:
    """The simulator as an app."""
    app, clock = FastAPI(), FastClock(start, speed)
    app.state.deps = Deps(
        Settings(_env_file=None, **settings),
        clock,
        MemoryBus(),
        MemoryCache(),
        None,  # type: ignore[arg-type]  # the simulator keeps nothing
        Hub(clock),
        (),
        MemoryJournal(),
    )
    for router in ROUTERS:
        app.include_router(router)
    return app


@asynccontextmanager
async def run_fast_simulator(
    start: int = MONDAY_MS, speed: float = 1, **settings: Any
) -> AsyncIterator[SimulatorServer]:
    """A market on a free port."""
    async with serve_app(simulator_app(start, speed, **settings)) as address:
        root = f"http://{address}/simulator"
        transport = httpx.AsyncHTTPTransport(retries=10)  # until it listens
        async with httpx.AsyncClient(base_url=root, timeout=20, transport=transport) as client:
            (await client.get("/faults")).raise_for_status()
            yield SimulatorServer(root, client)


@asynccontextmanager
async def connect_socket(market: SimulatorServer, path: str, **options: Any) -> AsyncIterator["RecordingSocket"]:
    """A client of the socket at `path`."""
    url = market.root.replace("http", "ws", 1) + path
    async with websockets.connect(url, compression=None, max_queue=None, **options) as connection:
        yield RecordingSocket(connection)


class RecordingSocket:
    """All that came on a socket, and a way to wait for more."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.texts: list[str] = []

    @property
    def frames(self) -> list[Any]:
        """What came, decoded."""
        return [msgspec.json.decode(text) for text in self.texts]

    async def send(self, **message: Any) -> None:
        await self.connection.send(msgspec.json.encode(message).decode())

    async def request(self, **message: Any) -> Any:
        """Send, and wait for the answer with the same id."""
        await self.send(**message)
        return await self.read_until(
            lambda frame: isinstance(frame, dict) and "id" in frame and frame["id"] == message["id"]
        )

    async def read_until(self, wanted: Callable[[Any], object], seconds: float = 15) -> Any:
        """Read until a frame is as wanted; answers it."""
        async with asyncio.timeout(seconds):
            while True:
                text = await self.connection.recv(decode=True)
                self.texts.append(text)
                if wanted(frame := msgspec.json.decode(text)):
                    return frame

    async def close_frame(self, seconds: float = 15) -> tuple[int | None, str]:
        """Read to the end; answers the closing code and reason, None for a connection that broke."""
        async with asyncio.timeout(seconds):
            try:
                while True:
                    self.texts.append(await self.connection.recv(decode=True))
            except websockets.ConnectionClosed as closed:
                return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")


def recorded_frames(exchange: str) -> Iterator[dict[str, Any]]:
    """Frames that an exchange's socket really sent: those that have a meaning for us, and more for their shape."""
    for row in map(msgspec.json.decode, (FRAMES_FOLDER / f"{exchange}.jsonl").read_bytes().splitlines()):
        if row["events"] and row["by"] == "socket":
            yield msgspec.json.decode(row["frame"])
    yield from map(msgspec.json.decode, (FRAMES_FOLDER / f"{exchange}.shapes.jsonl").read_bytes().splitlines())


def same_shape(ours: Any, theirs: Any) -> bool:
    """The same keys and kinds of values. What was null in theirs may be anything."""
    match theirs:
        case None:
            return True
        case dict():
            return ours.keys() == theirs.keys() and all(same_shape(ours[key], value) for key, value in theirs.items())
        case list():
            return isinstance(ours, list) and all(
                same_shape(first, second) for first, second in zip(ours, theirs, strict=False)
            )
        case str():
            return isinstance(ours, str) and decimal_places(ours) == decimal_places(theirs)
        case bool():
            return isinstance(ours, bool)
    return isinstance(ours, int | float) and not isinstance(ours, bool)


def decimal_places(text: str) -> int | None:
    """How many digits a number in text has behind the point; None: it is none."""
    whole, _, part = text.removeprefix("-").partition(".")
    return len(part) if whole.isdigit() and part.isdigit() else None
