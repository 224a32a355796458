"""The periodic tasks: what they request, store and delete."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from services.accounts.context import TaskContext
from services.accounts.registry import find_tasks
from services.accounts.tasks.monitoring_currency import monitoring_currency
from services.accounts.tasks.refresh_instruments import refresh_instruments
from services.accounts.tasks.retention import retention
from services.adapters.memory import MemoryCache
from services.adapters.sql import accounts
from services.core.errors import Unavailable
from services.core.exchange import Exchange
from services.core.tasks import AttemptEnd, NewTask, Task, TaskEvent, TaskFilter, TaskQueue
from services.core.timeframes import DAY_MS
from services.exchanges import EXCHANGES
from services.ports import Deps
from tests.api import ApiReplica
from tests.clocks import ManualClock
from tests.deps import make_deps
from tests.simulator import run_simulator, serve_app

NOW = 1_800_000_000_000
PRICE = b'{"jsonrpc":"2.0","result":{"index_price":87003.10,"estimated_delivery_price":87003.10}}'


def context(deps: Deps) -> TaskContext:
    return TaskContext(deps, Task(id="1", name="x", due=NOW, created_at=NOW), lambda _percent: asyncio.sleep(0))


class StubHost:
    """A host of an exchange that responds as a test wants, and counts."""

    def __init__(self) -> None:
        self.paths = list[str]()
        self.status, self.body, self.headers = 200, PRICE, list[tuple[bytes, bytes]]()
        self.wait: Callable[[], Any] = lambda: asyncio.sleep(0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(f"{scope['path']}?{scope['query_string'].decode()}")
        await self.wait()
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


@asynccontextmanager
async def stub_exchange(name: str, hosts: int = 1) -> AsyncIterator[tuple[Exchange, StubHost]]:
    host = StubHost()
    async with serve_app(host) as address:
        yield EXCHANGES[name]._replace(rest_urls=(f"http://{address}",) * hosts), host


def test_registered_periods_limits_and_queues() -> None:
    specs = {name: spec for name, spec in find_tasks().items() if spec.every_seconds}
    assert {name: spec.every_seconds for name, spec in specs.items()} == {
        "monitoring_currency": 45,
        "refresh_instruments": 86_400,
        "retention": 86_400,
        "trim_audit_log": 86_400,
    }
    monitoring = specs["monitoring_currency"]
    assert (monitoring.queue, monitoring.time_limit) == (TaskQueue.HIGH, 49)


async def test_ticker_that_no_client_wants_is_not_requested() -> None:
    async with stub_exchange("deribit") as (exchange, host):
        assert (await monitoring_currency(context(make_deps(exchanges=(exchange,))))).tickers == 0
    assert host.paths == []


async def test_wanted_ticker_is_requested_once_for_all_clients() -> None:
    async with stub_exchange("deribit") as (exchange, host):
        deps = make_deps(exchanges=(exchange,), clock=ManualClock(NOW))
        first, second = ApiReplica(deps), ApiReplica(deps)
        for replica in (first, second, first):
            waiting = await replica.get("/v1/tickers/btc_usd")
            assert (waiting.status_code, "try again within 45 seconds" in waiting.text) == (503, True)
        assert (await first.get("/v1/tickers/BTC_EUR")).status_code == 422
        run = context(deps)
        assert (await monitoring_currency(run)).tickers == 1
        response = await second.get("/v1/tickers/BTC_USD")
    assert host.paths == ["/api/v2/public/get_index_price?index_name=btc_usd"]
    assert response.json() == {
        "ticker": "btc_usd",
        "exchange": "deribit",
        "instrument": "BTC-USD",
        "price": "87003.1",
        "time": NOW,
    }


async def test_ticker_is_forgotten_a_while_after_the_last_request_for_it() -> None:
    seconds = 0.0
    async with stub_exchange("deribit") as (exchange, host):
        deps = make_deps(exchanges=(exchange,), cache=MemoryCache(monotonic=lambda: seconds))
        await ApiReplica(deps).get("/v1/tickers/eth_usd")
        seconds = 899
        await monitoring_currency(context(deps))
        seconds = 901
        await monitoring_currency(context(deps))
    assert len(host.paths) == 1


async def test_no_process_sends_requests_while_an_exchange_wants_none() -> None:
    async with stub_exchange("deribit", hosts=2) as (exchange, host):
        host.status, host.headers = 429, [(b"retry-after", b"60")]
        deps = make_deps(exchanges=(exchange,))
        await ApiReplica(deps).get("/v1/tickers/btc_usd")
        for process in (deps, make_deps(exchanges=(exchange,), cache=deps.cache)):
            with pytest.raises(Unavailable, match=r"1 of 1 tickers have no new price: .*429"):
                await monitoring_currency(context(process))
    assert len(host.paths) == 1


async def test_time_within_requests_is_counted_as_outside() -> None:
    async with stub_exchange("deribit") as (exchange, host):
        host.wait = lambda: asyncio.sleep(0.05)
        run = context(make_deps(exchanges=(exchange,)))
        await ApiReplica(run.deps).get("/v1/tickers/btc_usd")
        await monitoring_currency(run)
    assert run.outside_ms >= 50


async def test_trading_rules_of_all_exchanges_are_stored_and_served() -> None:
    async with run_simulator() as market:
        exchanges = tuple(market.exchange(name) for name in ("binance", "deribit", "coingecko"))
        deps = make_deps(exchanges=exchanges, clock=ManualClock(NOW))
        counts = (await refresh_instruments(context(deps))).instruments
    assert counts.keys() == {"binance", "deribit"}
    stored = await deps.store.trading_rules()
    assert len(stored) == sum(counts.values()) > 10
    replica = ApiReplica(deps)
    for symbol in ("BTCUSDT", "BTC-USDT", "btcusdt"):
        (found,) = (await replica.get(f"/v1/instruments?exchange=binance&symbol={symbol}")).json()["instruments"]
        assert (found["instrument"], found["trading"], found["min_notional"], found["maker_fee"], found["time"]) == (
            *("BTC-USDT", True, "5", None),
            NOW,
        )
    (perpetual,) = (await replica.get("/v1/instruments?symbol=BTC-PERPETUAL")).json()["instruments"]
    assert (perpetual["instrument"], perpetual["taker_fee"]) == ("BTC-USD-PERPETUAL", "0.0005")
    pages, cursor = list[str](), ""
    while cursor is not None:
        page = (await replica.get(f"/v1/instruments?limit=7&cursor={cursor}")).json()
        pages += [f"{each['exchange']} {each['symbol']}" for each in page["instruments"]]
        cursor = page["next"]
    assert pages == [f"{rules.exchange} {rules.symbol}" for rules in stored]


async def test_instrument_that_is_no_longer_listed_does_not_trade() -> None:
    async with run_simulator() as market:
        deps = make_deps(exchanges=(market.exchange("binance"),))
        await refresh_instruments(context(deps))
        (first, *_) = await deps.store.trading_rules()
        await deps.store.save(replace(first, symbol="OLDUSDT"))
        await refresh_instruments(context(deps))
    assert [rules.symbol for rules in await deps.store.trading_rules() if rules.symbol == "OLDUSDT"] == ["OLDUSDT"]
    assert [rules.trading for rules in await deps.store.trading_rules() if rules.symbol == "OLDUSDT"] == [False]


@pytest.mark.parametrize("body", [b'{"symbols":[]}', b"<html>", b'{"symbols":[{"symbol":"A"}]}'])
async def test_exchange_that_responds_with_nothing_keeps_its_rules_and_delays_no_other(body: bytes) -> None:
    async with run_simulator() as market, stub_exchange("binance") as (broken, host):
        deps = make_deps(exchanges=(market.exchange("binance"),))
        await refresh_instruments(context(deps))
        before = await deps.store.trading_rules("binance")
        host.body = body
        both = make_deps(exchanges=(broken, market.exchange("deribit")), store=deps.store)
        with pytest.raises(Unavailable, match=r"^binance: "):
            await refresh_instruments(context(both))
    assert await deps.store.trading_rules("binance") == before
    assert await deps.store.trading_rules("deribit")


async def test_old_finished_tasks_are_deleted(database: str) -> None:
    clock = ManualClock(NOW)
    deps = make_deps(clock=clock, accounts=accounts.connect(database))
    async with deps.accounts.transaction() as tx:
        old, waiting = [await tx.tasks.add(NewTask(name="x"), NOW) for _ in range(2)]
        claimed = await tx.tasks.claim(old.id, "w", NOW)
        assert claimed
        await tx.tasks.end_attempt(claimed, AttemptEnd(event=TaskEvent.SUCCEEDED), NOW)
    clock.time = NOW + 30 * DAY_MS
    assert (await retention(context(deps))).tasks == 0
    clock.time += 1
    assert (await retention(context(deps))).tasks == 1
    async with deps.accounts.transaction() as tx:
        assert [task.id for task in await tx.tasks.find(TaskFilter(), 9)] == [waiting.id]
    await deps.accounts.close()
