"""Responses and streams of series whose history is being loaded: how far they are, and why they wait."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio

from services.core.model import HistoryRequest, Instrument, Message, Series, SeriesProgress
from services.core.timeframes import TIMEFRAMES
from tests.api import (
    NOW,
    ApiReplica,
    ReplicaSet,
    candle,
    connect_client,
    exchange_status,
    open_event_stream,
    serve_replica,
    store_factory,
)

ETH = Series("binance", Instrument("ETH", "USDT"), "1h")
PERPETUAL = Series("deribit", Instrument("BTC", "USD", "PERPETUAL"), "4h")  # which Deribit does not have
HOUR = TIMEFRAMES["1h"]
FORMING_HOUR = HOUR.open_time(NOW)
YOUNG_OPEN_TIME = HOUR.step_back(FORMING_HOUR, 150)  # the first hour that the exchange has


@pytest_asyncio.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[ReplicaSet]:
    async with store_factory(tmp_path) as make:
        yield ReplicaSet(await make())


def apply_status(replica: ApiReplica, *loading: SeriesProgress, exchange: str = "binance") -> None:
    """Apply the status of a collector that still has to load these series."""
    replica.deps.hub.exchange_statuses[exchange] = exchange_status(exchange, replica.deps.clock.monotonic(), *loading)


def hour_progress(missing: int, reason: str = "") -> SeriesProgress:
    """Return the progress of ETH's hours."""
    return SeriesProgress(ETH.instrument, "1h", YOUNG_OPEN_TIME, 150, missing, reason)


def hour_candles(count: int, *, forming: bool = True) -> list[Any]:
    """Return the newest `count` closed hours, and the forming one."""
    closed = [candle(HOUR.step_back(FORMING_HOUR, back), ETH) for back in range(count, 0, -1)]
    return [*closed, candle(FORMING_HOUR, ETH, closed=False)] if forming else closed


async def test_response_with_missing_history_has_its_progress_and_reason(replicas: ReplicaSet) -> None:
    await replicas.save(*hour_candles(30))
    replica = replicas.replica()
    url = "/api/chart-data?symbol=ETHUSDT&timeframe=1h"
    assert "loading" not in (await replica.get(url)).json(), "its collector has loaded everything"
    apply_status(replica, hour_progress(120, "binance.test answers 400"))
    answer = await replica.get(f"{url}&fill=none")
    assert len(answer.json()["candles"]) == 31
    assert answer.json()["loading"] == {"expected": 150, "available": 30, "reason": "binance.test answers 400"}
    assert "max-age=1," in answer.headers["cache-control"]
    part = f"{url}&from={HOUR.step_back(FORMING_HOUR, 40)}&to={FORMING_HOUR - 1}"
    assert (await replica.get(part)).json()["loading"] == {
        "expected": 40,
        "available": 30,
        "reason": "binance.test answers 400",
    }
    for whole in (f"{url}&limit=20", f"{url}&limit=31", f"{url}&from={HOUR.step_back(FORMING_HOUR, 30)}"):
        assert "loading" not in (await replica.get(whole)).json(), "the requested candles are complete"
    indicators = (await replica.get(url.replace("chart-data", "indicators") + "&indicators=sma:20")).json()
    assert indicators["loading"]["available"] == 30
    analysis = (await replica.get(url.replace("chart-data", "analysis"))).json()
    assert analysis["loading"] == {"expected": 150, "available": 30, "reason": "binance.test answers 400"}
    several = (await replica.get("/api/analysis/ETHUSDT/multi?timeframes=1h,1d")).json()
    assert [row.get("loading", {}).get("available") for row in several["timeframes"]] == [30, None]
    assert several["loading"] == {"expected": 150, "available": 30, "reason": "binance.test answers 400"}


async def test_chart_gets_no_end_of_history_while_a_backfill_runs(replicas: ReplicaSet) -> None:
    await replicas.save(*hour_candles(30))
    replica = replicas.replica()
    before = f"/udf/history?symbol=ETHUSDT&resolution=60&to={HOUR.step_back(FORMING_HOUR, 30) // 1000}"
    apply_status(replica, hour_progress(120))
    empty = await replica.get(f"{before}&countback=300&from=0".replace("ETHUSDT", "BTCUSDT"))
    assert empty.json() == {"s": "no_data"}, "BTC has nothing left to load"
    older = (await replica.get(f"{before}&from={HOUR.step_back(FORMING_HOUR, 60) // 1000}")).json()
    assert older["s"] == "error"
    assert older["errmsg"] == "history is being loaded, 0 of 30 candles are available: try again"
    beyond = f"/udf/history?symbol=ETHUSDT&resolution=60&from=0&to={YOUNG_OPEN_TIME // 1000}"
    assert (await replica.get(beyond)).json() == {"s": "no_data"}, "the exchange has no older candles"
    assert (await replica.get(f"{before}&countback=300&from=0&to={NOW // 1000}".replace("to=", "end=", 1))).json()[
        "s"
    ] == "ok"


async def test_progress_of_a_roll_up_is_that_of_its_finer_candles(replicas: ReplicaSet) -> None:
    replica = replicas.replica()
    since = TIMEFRAMES["2h"].open_time(YOUNG_OPEN_TIME)
    apply_status(replica, SeriesProgress(PERPETUAL.instrument, "2h", since, 100, 50), exchange="deribit")
    answer = (await replica.get("/api/chart-data?symbol=BTC-USD-PERPETUAL&timeframe=4h")).json()
    assert answer["candles"] == []
    assert answer["loading"]["available"] == 0
    assert answer["loading"]["expected"] in (37, 38)


async def test_reason_of_missing_history_is_a_silent_collector(replicas: ReplicaSet) -> None:
    replica = replicas.replica()
    apply_status(replica, hour_progress(120))
    replicas.clock.time = NOW + 6_000
    answer = (await replica.get("/api/chart-data?symbol=ETHUSDT&timeframe=1h")).json()
    assert answer["loading"]["reason"] == "its collector is silent"
    replica.deps.hub.exchange_statuses.clear()
    answer = (await replica.get("/api/chart-data?symbol=ETHUSDT&timeframe=1h&limit=9")).json()
    assert answer["loading"] == {"expected": 9, "available": 0, "reason": "its collector is silent"}


async def test_reason_of_missing_history_is_the_collectors_lost_connection(replicas: ReplicaSet) -> None:
    replica = replicas.replica()
    state = exchange_status("binance", replica.deps.clock.monotonic(), hour_progress(120))
    replica.deps.hub.exchange_statuses["binance"] = msgspec.structs.replace(
        state, connected=False, reason="binance.test refuses connections"
    )
    answer = (await replica.get("/api/chart-data?symbol=ETHUSDT&timeframe=1h")).json()
    assert answer["loading"]["reason"] == "binance.test refuses connections"


async def test_history_request_is_published_once_for_a_series_with_missing_history(replicas: ReplicaSet) -> None:
    replica, requests = replicas.replica(), list[Message]()
    apply_status(replica, hour_progress(120))
    async with replicas.bus.subscribe(HistoryRequest) as messages:
        for limit in (300, 301, 302):
            await replica.get(f"/api/chart-data?symbol=ETHUSDT&timeframe=1h&limit={limit}")
        await replica.get("/api/chart-data?symbol=BTCUSDT&timeframe=1h")  # which is complete
        await replica.get("/api/candles/coverage")  # an overview requests no series
        replicas.clock.time += 5_001
        apply_status(replica, hour_progress(120))
        await replica.get(f"/api/candles/coverage?symbol=ETHUSDT&timeframe=1h&from={YOUNG_OPEN_TIME}")
        requests = [await anext(messages) for _ in range(2)]
    first, second = requests
    assert isinstance(first, HistoryRequest)
    assert isinstance(second, HistoryRequest)
    assert (first.series, second.series, second.since) == (ETH, ETH, YOUNG_OPEN_TIME)
    assert first.since == YOUNG_OPEN_TIME


async def test_streams_send_the_progress_of_a_backfill_and_its_end() -> None:
    async with serve_replica() as served:

        def progress(missing: int) -> None:
            served.deps.hub.apply(
                exchange_status("binance", served.deps.clock.now(), *([hour_progress(missing)] if missing else []))
            )

        progress(120)
        async with connect_client(served) as client, open_event_stream(served, "candles:ETHUSDT:1h,btc_usd") as stream:
            await client.send(action="subscribe", symbol="ETHUSDT", timeframe="1h")
            first = await client.next("loading")
            message = {"type": "loading", "channel": "candles:ETHUSDT:1h", "symbol": "ETHUSDT", "timeframe": "1h"}
            assert first == {**message, "done": False, "expected": 150, "available": 30, "reason": None}
            event = await stream.next()
            assert (event.name, event.id, event.data["available"]) == ("loading", "", 30)
            progress(50)
            assert (await client.next("loading"))["available"] == 100
            assert (await stream.next()).data["available"] == 100
            progress(0)
            assert await client.next("loading") == {**message, "done": True}
            assert (await stream.next()).data["done"] is True
            await client.send(action="unsubscribe", symbol="ETHUSDT", timeframe="1h")
            await client.send(action="subscribe", symbol="ETHUSDT", timeframe="1h")
            await client.send(action="ping")
            assert (await client.next("subscribed"))["symbol"] == "ETHUSDT"
            assert (await client.next())["type"] == "pong", "a complete series has no progress"
