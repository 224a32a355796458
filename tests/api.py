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
from services.core.model import IndicatorRequest, Message, Rate
from services.exchanges import configured_exchanges
from services.hub import Hub
from services.ports import Deps
from services.sequencing import SequencedPublisher
from services.settings import Settings
from services.web import AppSpec, create_app
from services.web.server import server_config
from tests.api_replicas import exchange_status
from tests.memory_store import MemoryStore, as_store
from tests.simulator import serve_app

PROTOCOLS = ("websocket", "sse")


class ListingStore(MemoryStore):
    """A store with all that the listing of symbols wants."""

    async def rates(self) -> list[Rate]:
        return []


@dataclass
class ServedReplica:
    """An API at work, and a voice that tells it things as the other services do."""

    deps: Deps
    address: str
    indicator_requests: list[IndicatorRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._publisher = SequencedPublisher(self.deps)

    async def publish(self, *messages: Message) -> None:
        await self._publisher.publish(*messages)

    @property
    def stream_clients(self) -> int:
        """How many clients its streams have."""
        return int(sum(REGISTRY.get_sample_value("kurs_stream_clients", {"protocol": each}) or 0 for each in PROTOCOLS))

    @property
    def socket_url(self) -> str:
        return f"ws://{self.address}/ws/chart-data"

    @property
    def stream_url(self) -> str:
        return f"http://{self.address}/v1/stream"


@asynccontextmanager
async def serve_replica(
    journal: MemoryJournal | None = None, kept: ListingStore | SqlStore | None = None, **settings: Any
) -> AsyncIterator[ServedReplica]:
    known = Settings(_env_file=None, **settings)
    store, bus = kept if isinstance(kept, SqlStore) else as_store(kept or ListingStore()), MemoryBus()
    deps = Deps(
        known,
        SystemClock(),
        bus,
        MemoryCache(),
        store,
        Hub(SystemClock()),
        configured_exchanges(known),
        journal or MemoryJournal(),
    )
    deps.hub.exchange_statuses["binance"] = exchange_status("binance", deps.clock.monotonic())
    site = AppSpec(api.ROUTERS, api.endpoints(deps), api.CHECKS(deps), frozenset())
    tasks = [asyncio.create_task(job(deps)) for job in api.JOBS]
    async with serve_app(create_app(deps, site), server_config) as address:
        running = ServedReplica(deps, address)
        tasks.append(asyncio.create_task(_collect_indicator_requests(running)))
        await asyncio.sleep(0)
        try:
            yield running
            assert not any(task.done() for task in tasks), "a job ended"
        finally:
            deps.hub.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _collect_indicator_requests(running: ServedReplica) -> None:
    async with running.deps.bus.subscribe(IndicatorRequest) as messages:
        async for message in messages:
            if isinstance(message, IndicatorRequest):
                running.indicator_requests.append(message)


@asynccontextmanager
async def connect_client(running: ServedReplica, **options: Any) -> AsyncIterator["StreamTestClient"]:
    async with websockets.connect(running.socket_url, compression=None, **options) as connection:
        yield StreamTestClient(connection)


class StreamTestClient:
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

    async def close_code(self) -> int | None:
        """Read to the end; answers the closing code, None for a connection that broke."""
        try:
            while True:
                await self.next()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    async def send(self, **words: Any) -> None:
        await self.connection.send(msgspec.json.encode(words).decode())


@dataclass
class ServerSentEvent:
    """One event of a stream."""

    id: str
    name: str
    data: Any


class EventStream:
    """The events of one answer."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.begun = True

    async def next(self) -> ServerSentEvent:
        words = dict[str, str]()
        async with asyncio.timeout(20):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data"):
                    words[name] = value
                elif not line and "event" in words:
                    return ServerSentEvent(words.get("id", ""), words["event"], msgspec.json.decode(words["data"]))
        raise AssertionError("the stream is over")


@asynccontextmanager
async def open_event_stream(
    here: ServedReplica, channels: str, headers: Mapping[str, str] | None = None, **query: str
) -> AsyncIterator[EventStream]:
    async with (
        httpx.AsyncClient(timeout=20) as http,
        http.stream("GET", here.stream_url, params={"channels": channels, **query}, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield EventStream(answer)
