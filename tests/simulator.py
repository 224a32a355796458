"""The simulated market served in this process, and a collector of it whose every message is kept."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.collector import JOBS
from services.core.exchange import Exchange
from services.core.model import ExchangeStatus, FeedGap, FeedStatus, Instrument, InstrumentFeed, Quote, Trade
from services.exchanges import EXCHANGES
from services.hub import Hub
from services.ports import Bus, Deps
from services.settings import Settings
from services.simulator import ROUTERS
from services.web.server import KEEP_ALIVE_SECONDS


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
    async with serve_app(app) as address:
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
    """A collector of these exchanges, at work."""
    deps = collector_deps(*exchanges, bus=bus, **settings)
    heard, ready = CollectedMessages(), asyncio.Event()
    listening = asyncio.create_task(_record_messages(deps.bus, heard, ready))
    await ready.wait()
    tasks = [listening, *(asyncio.create_task(job(deps)) for job in JOBS)]
    try:
        yield heard
        assert not any(task.done() for task in tasks), "a job ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _record_messages(bus: Bus, heard: CollectedMessages, ready: asyncio.Event) -> None:
    async with bus.subscribe(Quote, Trade, FeedGap, ExchangeStatus) as messages:
        ready.set()
        async for message in messages:
            match message:
                case Quote():
                    heard.all_quotes.append(message)
                case Trade():
                    heard.all_trades.append(message)
                case FeedGap():
                    heard.feed_gaps.append(message)
                case ExchangeStatus():
                    heard.statuses.append(message)


def collector_deps(*exchanges: Exchange, bus: Bus | None = None, **settings: Any) -> Deps:
    """Neither the simulator nor the collector has anything to do with a store."""
    known, clock = Settings(_env_file=None, **settings), SystemClock()
    return Deps(known, clock, bus or MemoryBus(), MemoryCache(), None, Hub(clock), exchanges, MemoryJournal())  # type: ignore[arg-type]


async def wait_until(condition: Callable[[], object], seconds: float = 60) -> float:
    """Wait until it is so; answers how many seconds that took. Fails after `seconds`."""
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        assert waited < seconds, f"not so within {seconds} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - start
