"""Replicas of the API over one store, one bus and one cache, with a clock that tests turn."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from services import api
from services.adapters import sql
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.core.model import (
    BackfillProgress,
    Bar,
    Candle,
    CandleGap,
    CandleSource,
    ExchangeStatus,
    FeedGap,
    Instrument,
    Series,
    SeriesProgress,
)
from services.exchanges import configured_exchanges
from services.hub import Hub
from services.ports import Deps
from services.settings import Settings
from services.web import AppSpec, create_app

StoreFactory = Callable[[], Awaitable[sql.SqlStore]]
NOW = 1_800_000_030_000  # half a minute into one
FORMING_OPEN_TIME = 1_800_000_000_000  # the forming minute's opening
BTC = Series("binance", Instrument("BTC", "USDT"), "1m")


class ManualClock:
    """A clock that tests turn. Sleeping takes no more than a moment."""

    time = NOW

    def now(self) -> int:
        return self.time

    def monotonic(self) -> int:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


class CallCounter:
    """A store, and how often each of its methods was asked."""

    def __init__(self, store: Any) -> None:
        self.store, self.calls = store, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.store, name)


class ReplicaSet:
    """Replicas over one store, one bus and one cache."""

    def __init__(self, store: sql.SqlStore) -> None:
        self.clock, self.store = ManualClock(), CallCounter(store)
        self.bus, self.cache = MemoryBus(queues={}), MemoryCache()

    def replica(self) -> "ApiReplica":
        settings = Settings(_env_file=None)
        deps = Deps(
            settings,
            self.clock,
            self.bus,
            self.cache,
            self.store,
            Hub(self.clock),
            configured_exchanges(settings),
            MemoryJournal(),
        )
        for exchange in deps.exchanges:
            deps.hub.exchange_statuses[exchange.name] = exchange_status(exchange.name, self.clock.monotonic())
        return ApiReplica(deps)

    async def save(self, *items: Candle | CandleGap | FeedGap, told: bool = True) -> None:
        """As the writer does it: kept, then told."""
        await self.store.store.save(*items)
        if told:
            await self.bus.publish(*(item for item in items if isinstance(item, Candle)))


class ApiReplica:
    """One replica of the API."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        site = AppSpec(api.ROUTERS, api.endpoints(deps), api.CHECKS(deps), frozenset())
        transport = httpx.ASGITransport(create_app(deps, site))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def get(self, url: str, **headers: str) -> httpx.Response:
        named = {"accept-encoding": "identity"} | {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.get(url, headers=named)

    async def get_candles(self, url: str) -> list[dict[str, Any]]:
        answer = await self.get(url)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = json.loads(answer.text, parse_float=Decimal)["candles"]
        return rows


@asynccontextmanager
async def store_factory(folder: Path) -> AsyncIterator[StoreFactory]:
    """Makes stores, each on a database of its own: copies of one that is empty."""
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
    """With its jobs at work."""
    tasks = [asyncio.create_task(job(replica.deps)) for job in api.JOBS]
    await asyncio.sleep(0)
    try:
        yield
        assert not any(task.done() for task in tasks), "a job ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def candle(opening: int, series: Series = BTC, price: str = "97614.93000000", **more: Any) -> Candle:
    value = Decimal(price)
    bar = Bar(opening, value, value + 1, value - 1, value, Decimal("0.10000000"), value / 10, 3)
    fields: dict[str, Any] = {"closed": opening < FORMING_OPEN_TIME, "source": CandleSource.EXCHANGE} | more
    return Candle(series, bar, **fields)


def exchange_status(exchange: str, now: int, *loading: SeriesProgress) -> ExchangeStatus:
    """What a collector says that loads these series still, and has loaded all others."""
    progress = BackfillProgress(1000, sum(each.missing for each in loading), loading)
    return ExchangeStatus(exchange, now, True, "socket", "", "", 0, now, 0, False, backfill=progress)


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(500):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not so within 5 s")
