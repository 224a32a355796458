"""The simulated exchanges in this process, clients of their sockets, and a collector whose messages are recorded."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import msgspec
import uvicorn
import websockets
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection

from services.adapters.memory import MemoryBus
from services.collector import JOBS
from services.core.exchange import Exchange
from services.core.model import ExchangeStatus, FeedGap, FeedStatus, Instrument, InstrumentFeed, Quote, Trade
from services.exchanges import EXCHANGES
from services.ports import Bus, Deps
from services.settings import Settings
from services.simulator import ROUTERS
from services.web.server import KEEP_ALIVE_SECONDS, server_config
from tests.clocks import FastClock
from tests.deps import make_deps
from tests.jobs import recorded_messages, running_jobs

MONDAY_MS = 1_795_392_000_000  # 2026-11-23, midnight


@dataclass
class SimulatorServer:
    """Where it is played, and its controls."""

    root: str
    client: httpx.AsyncClient

    async def fault(self, exchange: str, fault: str, instrument: str | None = None, **more: float) -> None:
        """Begin a fault; it ends with `heal`."""
        asked = {"exchange": exchange, "fault": fault, "instrument": instrument, **more}
        (await self.client.post("/faults", json=asked)).raise_for_status()

    async def clear_faults(self) -> None:
        """End all faults."""
        (await self.client.delete("/faults")).raise_for_status()

    async def ledger(self) -> dict[str, Any]:
        """What was sent, as the simulator knows."""
        answer: dict[str, Any] = (await self.client.get("/ledger", params={"limit": 100_000})).json()
        return answer

    def exchange(self, name: str, **changes: Any) -> Exchange:
        """An exchange as it is played here."""
        return EXCHANGES[name].simulated_at(self.root)._replace(**changes)


@asynccontextmanager
async def run_simulator() -> AsyncIterator[SimulatorServer]:
    """A market on a free port."""
    app = FastAPI()
    app.state.deps = collector_deps()
    for router in ROUTERS:
        app.include_router(router)
    async with serve_app(app, server_config) as address:
        root = f"http://{address}/simulator"
        async with httpx.AsyncClient(base_url=root) as client:
            yield SimulatorServer(root, client)


def plain_config(app: Any) -> uvicorn.Config:
    """As little as an app needs."""
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
    """An ASGI app on a free port of this machine; yields `host:port`."""
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
    """Signals are the test runner's."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture nothing."""
        return nullcontext()


@dataclass
class CollectedMessages:
    """Everything a collector said."""

    all_quotes: list[Quote] = field(default_factory=list)
    all_trades: list[Trade] = field(default_factory=list)
    feed_gaps: list[FeedGap] = field(default_factory=list)
    statuses: list[ExchangeStatus] = field(default_factory=list)

    def last_status(self, exchange: str) -> ExchangeStatus | None:
        """The last one."""
        return next((state for state in reversed(self.statuses) if state.exchange == exchange), None)

    def instrument_feed(self, exchange: str, instrument: str) -> InstrumentFeed | None:
        """How an instrument stands."""
        state, name = self.last_status(exchange), Instrument.parse(instrument)
        return next((source for source in state.feeds if source.instrument == name), None) if state else None

    def feed_status(self, exchange: str, instrument: str) -> FeedStatus | None:
        """How an instrument flows."""
        source = self.instrument_feed(exchange, instrument)
        return source.status if source else None

    def trade_ids(self, instrument: str) -> list[int]:
        """Numbers of an instrument's trades, as they came."""
        name = Instrument.parse(instrument)
        return [trade.trade_id for trade in self.all_trades if trade.instrument == name]

    def quotes(self, exchange: str, since: int = 0) -> list[Quote]:
        """Quotes of an exchange, of ours from `since` on."""
        return [tick for tick in self.all_quotes[since:] if tick.exchange == exchange]


def is_gapless(numbers: list[int]) -> bool:
    """Each once, in order, none missing."""
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
    """Neither the simulator nor the collector has anything to do with a store."""
    return make_deps(Settings(_env_file=None, **settings), exchanges=exchanges, bus=bus or MemoryBus())


def simulator_app(start: int = MONDAY_MS, speed: float = 1, **settings: Any) -> FastAPI:
    """The simulator as an app."""
    app = FastAPI()
    app.state.deps = make_deps(Settings(_env_file=None, **settings), clock=FastClock(start, speed))
    for router in ROUTERS:
        app.include_router(router)
    return app


@asynccontextmanager
async def run_fast_simulator(
    start: int = MONDAY_MS, speed: float = 1, **settings: Any
) -> AsyncIterator[SimulatorServer]:
    """A market on a free port."""
    async with serve_app(simulator_app(start, speed, **settings), server_config) as address:
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
