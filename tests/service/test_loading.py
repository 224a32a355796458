"""What is not loaded yet is said to be so, with how far it is and why it waits; what is whole is not."""

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
    store_factory,
)
from tests.api import serve_replica as live_replica

ETH = Series("binance", Instrument("ETH", "USDT"), "1h")
PERPETUAL = Series("deribit", Instrument("BTC", "USD", "PERPETUAL"), "4h")  # which Deribit does not have
HOUR = TIMEFRAMES["1h"]
FORMING_HOUR = HOUR.open_time(NOW)
YOUNG_OPEN_TIME = HOUR.step_back(FORMING_HOUR, 150)  # the first hour that the exchange has


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[ReplicaSet]:
    async with store_factory(tmp_path) as make:
        yield ReplicaSet(await make())


def apply_status(replica: ApiReplica, *loading: SeriesProgress, exchange: str = "binance") -> None:
    """What a collector says of the series that it has not loaded yet."""
    replica.deps.hub.exchange_statuses[exchange] = exchange_status(exchange, replica.deps.clock.monotonic(), *loading)


def hour_progress(missing: int, reason: str = "") -> SeriesProgress:
    """How far ETH's hours are."""
    return SeriesProgress(ETH.instrument, "1h", YOUNG_OPEN_TIME, 150, missing, reason)


def hour_candles(count: int, *, forming: bool = True) -> list[Any]:
    """The newest hours, the forming one among them."""
    closed = [candle(HOUR.step_back(FORMING_HOUR, back), ETH) for back in range(count, 0, -1)]
    return [*closed, candle(FORMING_HOUR, ETH, closed=False)] if forming else closed


async def test_an_answer_that_is_not_whole_yet_says_so_and_how_far_it_is(world: ReplicaSet) -> None:
    await world.save(*hour_candles(30))
    replica = world.replica()
    url = "/api/chart-data?symbol=ETHUSDT&timeframe=1h"
    assert "loading" not in (await replica.get(url)).json(), "its collector says that there is no more"
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
        assert "loading" not in (await replica.get(whole)).json(), "all that was asked for is there"
    indicators = (await replica.get(url.replace("chart-data", "indicators") + "&indicators=sma:20")).json()
    assert indicators["loading"]["available"] == 30
    analysis = (await replica.get(url.replace("chart-data", "analysis"))).json()
    assert analysis["loading"] == {"expected": 150, "available": 30, "reason": "binance.test answers 400"}
    several = (await replica.get("/api/analysis/ETHUSDT/multi?timeframes=1h,1d")).json()
    assert [row.get("loading", {}).get("available") for row in several["timeframes"]] == [30, None]
    assert several["loading"] == {"expected": 150, "available": 30, "reason": "binance.test answers 400"}


async def test_chart_gets_no_end_of_history_while_a_backfill_runs(world: ReplicaSet) -> None:
    await world.save(*hour_candles(30))
    replica = world.replica()
    before = f"/udf/history?symbol=ETHUSDT&resolution=60&to={HOUR.step_back(FORMING_HOUR, 30) // 1000}"
    apply_status(replica, hour_progress(120))
    empty = await replica.get(f"{before}&countback=300&from=0".replace("ETHUSDT", "BTCUSDT"))
    assert empty.json() == {"s": "no_data"}, "of this one there is no more"
    older = (await replica.get(f"{before}&from={HOUR.step_back(FORMING_HOUR, 60) // 1000}")).json()
    assert older["s"] == "error"
    assert older["errmsg"] == "history is being loaded, 0 of 30 candles are available: try again"
    beyond = f"/udf/history?symbol=ETHUSDT&resolution=60&from=0&to={YOUNG_OPEN_TIME // 1000}"
    assert (await replica.get(beyond)).json() == {"s": "no_data"}, "the exchange has nothing as old"
    assert (await replica.get(f"{before}&countback=300&from=0&to={NOW // 1000}".replace("to=", "end=", 1))).json()[
        "s"
    ] == "ok"


async def test_rolled_up_timeframe_is_loaded_as_far_as_its_parts(world: ReplicaSet) -> None:
    replica = world.replica()
    since = TIMEFRAMES["2h"].open_time(YOUNG_OPEN_TIME)
    apply_status(replica, SeriesProgress(PERPETUAL.instrument, "2h", since, 100, 50), exchange="deribit")
    answer = (await replica.get("/api/chart-data?symbol=BTC-USD-PERPETUAL&timeframe=4h")).json()
    assert answer["candles"] == []
    assert answer["loading"]["available"] == 0
    assert answer["loading"]["expected"] in (37, 38)


async def test_a_collector_that_is_not_heard_is_the_reason(world: ReplicaSet) -> None:
    replica = world.replica()
    apply_status(replica, hour_progress(120))
    world.clock.time = NOW + 6_000
    answer = (await replica.get("/api/chart-data?symbol=ETHUSDT&timeframe=1h")).json()
    assert answer["loading"]["reason"] == "its collector is silent"
    replica.deps.hub.exchange_statuses.clear()
    answer = (await replica.get("/api/chart-data?symbol=ETHUSDT&timeframe=1h&limit=9")).json()
    assert answer["loading"] == {"expected": 9, "available": 0, "reason": "its collector is silent"}


async def test_a_collector_that_has_no_connection_says_why(world: ReplicaSet) -> None:
    replica = world.replica()
    state = exchange_status("binance", replica.deps.clock.monotonic(), hour_progress(120))
    replica.deps.hub.exchange_statuses["binance"] = msgspec.structs.replace(
        state, connected=False, reason="binance.test refuses connections"
    )
    answer = (await replica.get("/api/chart-data?symbol=ETHUSDT&timeframe=1h")).json()
    assert answer["loading"]["reason"] == "binance.test refuses connections"


async def test_request_for_missing_history_is_published_once_and_fetched_first(world: ReplicaSet) -> None:
    replica, requests = world.replica(), list[Message]()
    apply_status(replica, hour_progress(120))
    async with world.bus.subscribe(HistoryRequest) as messages:
        for limit in (300, 301, 302):
            await replica.get(f"/api/chart-data?symbol=ETHUSDT&timeframe=1h&limit={limit}")
        await replica.get("/api/chart-data?symbol=BTCUSDT&timeframe=1h")  # which is whole
        await replica.get("/api/candles/coverage")  # a question about everything is no wish for any of it
        world.clock.time += 5_001
        apply_status(replica, hour_progress(120))
        await replica.get(f"/api/candles/coverage?symbol=ETHUSDT&timeframe=1h&from={YOUNG_OPEN_TIME}")
        requests = [await anext(messages) for _ in range(2)]
    first, second = requests
    assert isinstance(first, HistoryRequest)
    assert isinstance(second, HistoryRequest)
    assert (first.series, second.series, second.since) == (ETH, ETH, YOUNG_OPEN_TIME)
    assert first.since == YOUNG_OPEN_TIME


async def test_streams_tell_how_far_a_series_is_and_when_it_is_done() -> None:
    async with live_replica() as here:

        def progress(missing: int) -> None:
            here.deps.hub.apply(
                exchange_status("binance", here.deps.clock.now(), *([hour_progress(missing)] if missing else []))
            )

        progress(120)
        async with connect_client(here) as one, open_event_stream(here, "candles:ETHUSDT:1h,btc_usd") as stream:
            await one.send(action="subscribe", symbol="ETHUSDT", timeframe="1h")
            first = await one.next("loading")
            words = {"type": "loading", "channel": "candles:ETHUSDT:1h", "symbol": "ETHUSDT", "timeframe": "1h"}
            assert first == {**words, "done": False, "expected": 150, "available": 30, "reason": None}
            event = await stream.next()
            assert (event.name, event.id, event.data["available"]) == ("loading", "", 30)
            progress(50)
            assert (await one.next("loading"))["available"] == 100
            assert (await stream.next()).data["available"] == 100
            progress(0)
            assert await one.next("loading") == {**words, "done": True}
            assert (await stream.next()).data["done"] is True
            await one.send(action="unsubscribe", symbol="ETHUSDT", timeframe="1h")
            await one.send(action="subscribe", symbol="ETHUSDT", timeframe="1h")
            await one.send(action="ping")
            assert (await one.next("subscribed"))["symbol"] == "ETHUSDT"
            assert (await one.next())["type"] == "pong", "nothing is said of what is whole"
