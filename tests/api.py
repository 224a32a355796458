"""Replicas of the API in this process, and clients of their streams.

`ApiReplica` and `ReplicaSet` respond without a socket, on a clock that a test sets. `ServedReplica` listens on a port
and has live streams. `CoursesReplica` has rates of fixed prices.
"""

import asyncio
import json
import shutil
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import websockets
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection

from services import api
from services.account_ports import AccountStore, NoAccountStore
from services.adapters import sql
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal, MemoryStore
from services.adapters.sql import SqlStore
from services.core.markets import LIVE, Market
from services.core.model import (
    BackfillProgress,
    Bar,
    Candle,
    CandleGap,
    CandleSource,
    ExchangeStatus,
    FeedGap,
    IndicatorRequest,
    Instrument,
    Message,
    Quote,
    Series,
    SeriesProgress,
)
from services.core.rates import RateCalculator, Thresholds
from services.exchanges import configured_exchanges, route_table
from services.hub import Hub
from services.ports import Deps
from services.sequencing import sequenced_publisher
from services.settings import Settings
from services.web import AppSpec, create_app
from services.web.rate_limiter import ClientRateLimiter
from services.web.server import server_config
from tests.clocks import ManualClock
from tests.deps import make_deps
from tests.jobs import recorded_messages, running_jobs
from tests.simulator import serve_app

PROTOCOLS = ("websocket", "sse")
COURSES_NOW = 1_800_000_000_000
StoreFactory = Callable[[], Awaitable[sql.SqlStore]]
NOW = 1_800_000_030_000  # half a minute later
FORMING_OPEN_TIME = 1_800_000_000_000  # of the forming minute
BTC = Series("binance", Instrument("BTC", "USDT"), "1m")


class CallCounter:
    """A store that counts the calls of each of its methods."""

    def __init__(self, store: Any) -> None:
        self.store, self.calls = store, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.store, name)


class ReplicaSet:
    """Replicas over one store, one bus and one cache."""

    def __init__(self, store: sql.SqlStore) -> None:
        self.clock, self.store = ManualClock(NOW), CallCounter(store)
        self.bus, self.cache = MemoryBus(queues={}), MemoryCache()

    def replica(self) -> "ApiReplica":
        settings = Settings(_env_file=None)
        deps = make_deps(
            settings,
            clock=self.clock,
            bus=self.bus,
            cache=self.cache,
            store=self.store,
            exchanges=configured_exchanges(settings),
        )
        for exchange in deps.exchanges:
            deps.hub.exchange_statuses[exchange.name] = exchange_status(exchange.name, self.clock.monotonic())
        return ApiReplica(deps)

    async def save(self, *items: Candle | CandleGap | FeedGap, publish: bool = True) -> None:
        """Save items, then publish the candles, as the writer does."""
        await self.store.store.save(*items)
        if publish:
            await self.bus.publish(*(item for item in items if isinstance(item, Candle)))


class ApiReplica:
    """One replica of the API."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        site = AppSpec(api.ROUTERS, api.endpoints(deps), api.CHECKS(deps), frozenset())
        transport = httpx.ASGITransport(create_app(deps, site))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def get(self, url: str, **headers: str) -> httpx.Response:
        all_headers = {"accept-encoding": "identity"} | {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.get(url, headers=all_headers)

    async def get_candles(self, url: str) -> list[dict[str, Any]]:
        answer = await self.get(url)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = json.loads(answer.text, parse_float=Decimal)["candles"]
        return rows


@asynccontextmanager
async def store_factory(folder: Path) -> AsyncIterator[StoreFactory]:
    """Yield a function that makes stores, each on a copy of an empty database."""
    opened = list[sql.SqlStore]()
    await sql.migrate(f"sqlite+aiosqlite:///{folder}/empty.db")

    async def make() -> sql.SqlStore:
        path = shutil.copy(folder / "empty.db", folder / f"{len(opened)}.db")
        opened.append(await sql.connect(f"sqlite+aiosqlite:///{path}"))
        return opened[-1]

    yield make
    for store in opened:
        await store.close()


@asynccontextmanager
async def run_replica(replica: ApiReplica) -> AsyncIterator[None]:
    """Run the replica's jobs until the block ends."""
    async with running_jobs(*(job(replica.deps) for job in api.JOBS)):
        yield


def candle(open_time: int, series: Series = BTC, price: str = "97614.93000000", **more: Any) -> Candle:
    value = Decimal(price)
    bar = Bar(open_time, value, value + 1, value - 1, value, Decimal("0.10000000"), value / 10, 3)
    fields: dict[str, Any] = {"closed": open_time < FORMING_OPEN_TIME, "source": CandleSource.EXCHANGE} | more
    return Candle(series, bar, **fields)


def exchange_status(exchange: str, now: int, *loading: SeriesProgress) -> ExchangeStatus:
    """Return the status of a collector that still has to load these series."""
    progress = BackfillProgress(1000, sum(each.missing for each in loading), loading)
    return ExchangeStatus(exchange, now, True, "socket", "", "", 0, now, 0, False, backfill=progress)


BINANCE_QUOTES = {
    "BTC-USDT": ("97614.93000000", "97614.94000000"),
    "ETH-USDT": ("3290.28", "3290.29"),
    "USDC-USDT": ("1", "1"),
}


COINGECKO_PRICES = {"BTC": "97600.123456789", "ETH": "3290.5", "USDT": "0.9998", "USDC": "0.9999"}


class CoursesReplica:
    """A replica of the API that gets rates of fixed prices."""

    def __init__(self, market: Market = LIVE, **settings: Any) -> None:
        self.clock = ManualClock(COURSES_NOW)
        self.settings = Settings(_env_file=None, **settings)
        self.deps = make_deps(self.settings, clock=self.clock, hub=Hub(self.clock, market))
        self.calculator = RateCalculator(configured_exchanges(self.settings), route_table(self.settings), Thresholds())
        self.limiter = ClientRateLimiter(settings=self.settings, clock=self.clock, cache=self.deps.cache)
        site = AppSpec(api.ROUTERS, api.endpoints(self.deps), api.CHECKS(self.deps), frozenset(api.NEEDS), self.limiter)
        self.app = create_app(self.deps, site)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")

    def publish_quotes(self, *exchanges: str) -> None:
        """Apply new quotes of these exchanges, and publish the rates to the replica."""
        for name, (bid, ask) in BINANCE_QUOTES.items() if "binance" in exchanges else ():
            self._publish_quote("binance", name, Decimal(bid), Decimal(ask))
        for base, price in COINGECKO_PRICES.items() if "coingecko" in exchanges else ():
            self._publish_quote("coingecko", f"{base}-USD", Decimal(price))
            self._publish_quote("coingecko", f"{base}-RUB", Decimal(price) * 80)
        self.publish_rates()

    def publish_rates(self) -> None:
        for direction in self.settings.directions:
            self.deps.hub.apply(self.calculator.rate(direction, self.clock.time))

    def _publish_quote(self, exchange: str, name: str, *prices: Decimal) -> None:
        """A bid and an ask, or one price."""
        price = prices[0] if len(prices) == 1 else None
        bid, ask = prices if price is None else (None, None)
        self.calculator.apply(Quote(exchange, Instrument.parse(name), self.clock.time, bid=bid, ask=ask, price=price))

    async def get(self, url: str, **headers: str) -> httpx.Response:
        return await self.client.get(url, headers={k.replace("_", "-"): v for k, v in headers.items()})


@dataclass
class ServedReplica:
    """A replica of the API on a port, and a publisher in place of the other services."""

    deps: Deps
    address: str
    indicator_requests: list[IndicatorRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._publisher = sequenced_publisher(self.deps)

    async def publish(self, *messages: Message) -> None:
        await self._publisher.publish(*messages)

    @property
    def stream_clients(self) -> int:
        """The number of its stream clients."""
        return int(sum(REGISTRY.get_sample_value("kurs_stream_clients", {"protocol": each}) or 0 for each in PROTOCOLS))

    @property
    def socket_url(self) -> str:
        return f"ws://{self.address}/ws/chart-data"

    @property
    def stream_url(self) -> str:
        return f"http://{self.address}/v1/stream"


@asynccontextmanager
async def serve_replica(
    journal: MemoryJournal | None = None,
    store: MemoryStore | SqlStore | None = None,
    accounts: AccountStore | None = None,
    **settings: Any,
) -> AsyncIterator[ServedReplica]:
    """Serve an API. With `accounts` it knows people."""
    chosen = Settings(_env_file=None, **settings)
    deps = make_deps(
        chosen,
        exchanges=configured_exchanges(chosen),
        journal=journal or MemoryJournal(),
        store=store or MemoryStore(),
        accounts=accounts or NoAccountStore(),
    )
    deps.hub.exchange_statuses["binance"] = exchange_status("binance", deps.clock.monotonic())
    composed = api.compose(deps)
    authenticator = composed.authenticator if accounts else None
    site = AppSpec(api.ROUTERS, composed.endpoints, api.CHECKS(deps), frozenset(), authenticator=authenticator)
    async with (
        running_jobs(*(job(deps) for job in api.JOBS), *(job() for job in composed.jobs)),
        recorded_messages(deps.bus, IndicatorRequest) as indicator_requests,
        serve_app(create_app(deps, site), server_config) as address,
    ):
        try:
            yield ServedReplica(deps, address, indicator_requests)
        finally:
            deps.hub.close()


@asynccontextmanager
async def connect_client(running: ServedReplica, **options: Any) -> AsyncIterator["StreamTestClient"]:
    async with websockets.connect(running.socket_url, compression=None, **options) as connection:
        yield StreamTestClient(connection)


class StreamTestClient:
    """A client of the WebSocket, which a test reads message by message."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def next(self, kind: str = "") -> Any:
        """Return the next message, or the next one of a kind."""
        async with asyncio.timeout(60):
            while True:
                message = msgspec.json.decode(await self.connection.recv())
                if not kind or message["type"] == kind:
                    return message

    async def close_code(self) -> int | None:
        """Read to the end, and return the closing code. None: the connection broke."""
        try:
            while True:
                await self.next()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    async def send(self, **message: Any) -> None:
        await self.connection.send(msgspec.json.encode(message).decode())


@dataclass
class ServerSentEvent:
    """An event of an event stream."""

    id: str
    name: str
    data: Any


class EventStream:
    """The events of a response."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.begun = True

    async def next(self) -> ServerSentEvent:
        fields = dict[str, str]()
        async with asyncio.timeout(60):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data"):
                    fields[name] = value
                elif not line and "event" in fields:
                    return ServerSentEvent(fields.get("id", ""), fields["event"], msgspec.json.decode(fields["data"]))
        raise AssertionError("the stream has ended")


@asynccontextmanager
async def open_event_stream(
    replica: ServedReplica, channels: str, headers: Mapping[str, str] | None = None, **query: str
) -> AsyncIterator[EventStream]:
    async with (
        httpx.AsyncClient(timeout=60) as http,
        http.stream("GET", replica.stream_url, params={"channels": channels, **query}, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield EventStream(answer)


async def connect_stalled(replica: ServedReplica) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect a client that subscribes and then reads nothing."""
    host, port = replica.address.split(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    writer.write(
        f"GET /ws/chart-data HTTP/1.1\r\nHost: {replica.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b'"welcome"')
    request = b'{"action":"subscribe","symbol":"BTCUSDT","timeframe":"1m"}'
    writer.write(bytes((0x81, 0x80 | len(request))) + b"\0\0\0\0" + request)  # a mask of zeros
    await reader.readuntil(b'"type":"snapshot"')
    return reader, writer
