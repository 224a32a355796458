"""The simulated exchanges in this process, clients of their sockets, and a collector whose messages are recorded."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import msgspec
import uvicorn
import websockets
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection

from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus
from services.collector import JOBS
from services.core.exchange import Exchange
from services.core.model import ExchangeStatus, FeedGap, FeedStatus, Instrument, InstrumentFeed, Quote, Trade
from services.exchanges import EXCHANGES
from services.ports import Bus, Clock, Deps
from services.settings import Settings
from services.simulator import ROUTERS
from services.web.server import KEEP_ALIVE_SECONDS, server_config
from tests.clocks import FastClock
from tests.deps import make_deps
from tests.jobs import recorded_messages, running_jobs

MONDAY_MS = 1_795_392_000_000  # 2026-11-23, midnight


@dataclass
class SimulatorServer:
    """A running simulator, and its control API."""

    root: str
    client: httpx.AsyncClient

    async def fault(self, exchange: str, fault: str, instrument: str | None = None, **more: float) -> None:
        """Begin a fault. It lasts for `seconds`, or without them until `clear_faults`."""
        body = {"exchange": exchange, "fault": fault, "instrument": instrument, **more}
        (await self.client.post("/faults", json=body)).raise_for_status()

    async def clear_faults(self) -> None:
        (await self.client.delete("/faults")).raise_for_status()

    async def ledger(self) -> dict[str, Any]:
        """Return what the simulator has sent."""
        response: dict[str, Any] = (await self.client.get("/ledger", params={"limit": 100_000})).json()
        return response

    def exchange(self, name: str, **changes: Any) -> Exchange:
        """Return an exchange with the addresses of this simulator."""
        return EXCHANGES[name].simulated_at(self.root)._replace(**changes)


def simulator_app(clock: Clock | None = None, **settings: Any) -> FastAPI:
    app = FastAPI()
    app.state.deps = make_deps(Settings(_env_file=None, **settings), clock=clock or SystemClock())
    for router in ROUTERS:
        app.include_router(router)
    return app


@asynccontextmanager
async def run_simulator(clock: Clock | None = None, **settings: Any) -> AsyncIterator[SimulatorServer]:
    """Run a simulator on a free port until the block ends."""
    async with serve_app(simulator_app(clock, **settings), server_config) as address:
        root = f"http://{address}/simulator"
        transport = httpx.AsyncHTTPTransport(retries=10)  # until it listens
        async with httpx.AsyncClient(base_url=root, timeout=60, transport=transport) as client:
            (await client.get("/faults")).raise_for_status()
            yield SimulatorServer(root, client)


def run_fast_simulator(
    start: int = MONDAY_MS, speed: float = 1, **settings: Any
) -> AbstractAsyncContextManager[SimulatorServer]:
    """Run a simulator whose time begins at `start`, in ms, and passes `speed` times as fast as the machine's."""
    return run_simulator(FastClock(start, speed), **settings)


def plain_config(app: Any) -> uvicorn.Config:
    """Return a configuration with as little as an app needs."""
    return uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


@asynccontextmanager
async def serve_app(app: Any, config: Callable[[Any], uvicorn.Config] = plain_config) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port of this machine, and yield `host:port`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = _Server(config(app))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.force_exit = server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """A server that leaves signals to the test runner."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@dataclass
class CollectedMessages:
    """The messages that a collector has published."""

    all_quotes: list[Quote] = field(default_factory=list)
    all_trades: list[Trade] = field(default_factory=list)
    feed_gaps: list[FeedGap] = field(default_factory=list)
    statuses: list[ExchangeStatus] = field(default_factory=list)

    def last_status(self, exchange: str) -> ExchangeStatus | None:
        return next((state for state in reversed(self.statuses) if state.exchange == exchange), None)

    def instrument_feed(self, exchange: str, instrument: str) -> InstrumentFeed | None:
        """Return an instrument's feed as of the last status."""
        state, name = self.last_status(exchange), Instrument.parse(instrument)
        return next((source for source in state.feeds if source.instrument == name), None) if state else None

    def feed_status(self, exchange: str, instrument: str) -> FeedStatus | None:
        source = self.instrument_feed(exchange, instrument)
        return source.status if source else None

    def trade_ids(self, instrument: str) -> list[int]:
        """Return the ids of an instrument's trades in the order of publishing."""
        name = Instrument.parse(instrument)
        return [trade.trade_id for trade in self.all_trades if trade.instrument == name]

    def quotes(self, exchange: str) -> list[Quote]:
        """Return the quotes of an exchange."""
        return [quote for quote in self.all_quotes if quote.exchange == exchange]


def is_gapless(numbers: list[int]) -> bool:
    """Return whether each number follows the one before it."""
    return all(second == first + 1 for first, second in pairwise(numbers))


@asynccontextmanager
async def run_collector(
    *exchanges: Exchange, bus: Bus | None = None, **settings: Any
) -> AsyncIterator[CollectedMessages]:
    """Run a collector of these exchanges until the block ends."""
    deps = collector_deps(*exchanges, bus=bus, **settings)
    async with (
        recorded_messages(deps.bus, Quote) as quotes,
        recorded_messages(deps.bus, Trade) as trades,
        recorded_messages(deps.bus, FeedGap) as gaps,
        recorded_messages(deps.bus, ExchangeStatus) as statuses,
        running_jobs(*(job(deps) for job in JOBS)),
    ):
        yield CollectedMessages(quotes, trades, gaps, statuses)


def collector_deps(*exchanges: Exchange, bus: Bus | None = None, **settings: Any) -> Deps:
    """Return ports in memory for a collector of these exchanges."""
    return make_deps(Settings(_env_file=None, **settings), exchanges=exchanges, bus=bus or MemoryBus())


@asynccontextmanager
async def connect_socket(market: SimulatorServer, path: str, **options: Any) -> AsyncIterator["RecordingSocket"]:
    """Connect a client to the simulator's WebSocket at `path`."""
    url = market.root.replace("http", "ws", 1) + path
    async with websockets.connect(url, compression=None, max_queue=None, **options) as connection:
        yield RecordingSocket(connection)


class RecordingSocket:
    """A WebSocket client that records all received texts."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.texts: list[str] = []

    @property
    def frames(self) -> list[Any]:
        """The received texts, decoded."""
        return [msgspec.json.decode(text) for text in self.texts]

    async def send(self, **message: Any) -> None:
        await self.connection.send(msgspec.json.encode(message).decode())

    async def request(self, **message: Any) -> Any:
        """Send a message, and wait for the response with its id."""
        await self.send(**message)
        return await self.read_until(
            lambda frame: isinstance(frame, dict) and "id" in frame and frame["id"] == message["id"]
        )

    async def read_until(self, wanted: Callable[[Any], object], seconds: float = 60) -> Any:
        """Read until a frame is as wanted, and return it."""
        async with asyncio.timeout(seconds):
            while True:
                text = await self.connection.recv(decode=True)
                self.texts.append(text)
                if wanted(frame := msgspec.json.decode(text)):
                    return frame

    async def close_frame(self, seconds: float = 60) -> tuple[int | None, str]:
        """Read to the end, and return the closing code and reason. None: the connection broke."""
        async with asyncio.timeout(seconds):
            try:
                while True:
                    self.texts.append(await self.connection.recv(decode=True))
            except websockets.ConnectionClosed as closed:
                return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")
