"""An API replica in this process with its live streams, and clients that look at what comes, message by message."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import websockets
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection

from services import api
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.adapters.sql import SqlStore
from services.core.model import Message, Rate, Wish
from services.exchanges import chosen
from services.hub import Hub
from services.ports import Deps
from services.sequencing import Teller
from services.settings import Settings
from services.web import Site, create_app
from services.web.server import server_config
from tests.api_replicas import heard
from tests.memory_store import Kept, as_store
from tests.simulator import served

PROTOCOLS = ("websocket", "sse")


class Listing(Kept):
    """A store with all that the listing of symbols wants."""

    async def rates(self) -> list[Rate]:
        return []


@dataclass
class Replica:
    """An API at work, and a voice that tells it things as the other services do."""

    deps: Deps
    address: str
    wishes: list[Wish] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._teller = Teller(self.deps)

    async def tell(self, *messages: Message) -> None:
        await self._teller.tell(*messages)

    @property
    def members(self) -> int:
        """How many clients its streams have."""
        return int(sum(REGISTRY.get_sample_value("kurs_stream_clients", {"protocol": each}) or 0 for each in PROTOCOLS))

    @property
    def socket_url(self) -> str:
        return f"ws://{self.address}/ws/chart-data"

    @property
    def http(self) -> str:
        return f"http://{self.address}/v1/stream"


@asynccontextmanager
async def replica(
    journal: MemoryJournal | None = None, kept: Listing | SqlStore | None = None, **settings: Any
) -> AsyncIterator[Replica]:
    known = Settings(_env_file=None, **settings)
    store, bus = kept if isinstance(kept, SqlStore) else as_store(kept or Listing()), MemoryBus()
    deps = Deps(
        known, SystemClock(), bus, MemoryCache(), store, Hub(SystemClock()), chosen(known), journal or MemoryJournal()
    )
    deps.hub.states["binance"] = heard("binance", deps.clock.monotonic())
    site = Site(api.ROUTERS, api.FRONTS(deps), api.CHECKS(deps), frozenset(), streams=api.STREAMS(deps))
    tasks = [asyncio.create_task(job(deps)) for job in api.JOBS]
    async with served(create_app(deps, site), server_config) as address:
        running = Replica(deps, address)
        tasks.append(asyncio.create_task(_listen(running)))
        await asyncio.sleep(0)
        try:
            yield running
            assert not any(task.done() for task in tasks), "a job ended"
        finally:
            deps.hub.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(running: Replica) -> None:
    async with running.deps.bus.live(Wish) as messages:
        async for message in messages:
            if isinstance(message, Wish):
                running.wishes.append(message)


@asynccontextmanager
async def client(running: Replica, **options: Any) -> AsyncIterator["Client"]:
    async with websockets.connect(running.socket_url, compression=None, **options) as connection:
        yield Client(connection)


class Client:
    """A WebSocket's client that looks at what comes, message by message."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def next(self, kind: str = "") -> Any:
        """The next message, or the next one of a kind."""
        async with asyncio.timeout(20):
            while True:
                message = msgspec.json.decode(await self.connection.recv())
                if not kind or message["type"] == kind:
                    return message

    async def closing(self) -> int | None:
        """Read to the end; answers the closing code, None for a connection that broke."""
        try:
            while True:
                await self.next()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    async def ask(self, **words: Any) -> None:
        await self.connection.send(msgspec.json.encode(words).decode())


@dataclass
class Event:
    """One event of a stream."""

    id: str
    name: str
    data: Any


class Stream:
    """The events of one answer."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.begun = True

    async def next(self) -> Event:
        words = dict[str, str]()
        async with asyncio.timeout(20):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data"):
                    words[name] = value
                elif not line and "event" in words:
                    return Event(words.get("id", ""), words["event"], msgspec.json.decode(words["data"]))
        raise AssertionError("the stream is over")


@asynccontextmanager
async def events(
    here: Replica, channels: str, headers: Mapping[str, str] | None = None, **query: str
) -> AsyncIterator[Stream]:
    async with (
        httpx.AsyncClient(timeout=20) as http,
        http.stream("GET", here.http, params={"channels": channels, **query}, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer)
