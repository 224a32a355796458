"""The simulated Deribit: JSON-RPC calls, subscriptions, heartbeats, limits and errors."""

from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from tests.recorded_frames import same_shape, socket_frames
from tests.simulator import MONDAY_MS, RecordingSocket, SimulatorServer, connect_socket, is_gapless, run_fast_simulator

PATH = "/deribit/ws/api/v2"
CLOCK_SPEED = 30
CHANNELS = [
    "ticker.BTC-PERPETUAL.100ms",
    "trades.BTC-PERPETUAL.100ms",
    "trades.spot.any.agg2",
    "quote.ETH-PERPETUAL",
    "deribit_price_index.btc_usd",
    "deribit_price_index.usdc_usdt",
    "chart.trades.BTC-PERPETUAL.1",
    "book.BTC-PERPETUAL.100ms",
    "book.BTC-PERPETUAL.none.10.100ms",
    "platform_state",
]
UNKNOWN_CHANNELS = [
    "deribit_price_index.usdt_usd",
    "quote.BTC-NEVER",
    "ticker.BTC-PERPETUAL.7ms",
    "book.BTC-NEVER.100ms",
    "nonsense",
]
ReceivedData = tuple[SimulatorServer, dict[str, list[Any]]]


@pytest_asyncio.fixture(scope="module")
async def market() -> AsyncIterator[SimulatorServer]:
    async with run_fast_simulator(MONDAY_MS + 43_200_000) as market:
        yield market


@pytest_asyncio.fixture(scope="module")
async def fast_market() -> AsyncIterator[SimulatorServer]:
    async with run_fast_simulator(MONDAY_MS + 43_200_000, CLOCK_SPEED) as market:
        yield market


@pytest_asyncio.fixture(scope="module")
async def received(fast_market: SimulatorServer) -> ReceivedData:
    """A simulator, and the data of each channel within a minute."""
    frames: dict[str, list[Any]] = {name: [] for name in CHANNELS}
    async with connect_socket(fast_market, PATH) as client:
        answer = await call_method(client, "public/subscribe", channels=CHANNELS + UNKNOWN_CHANNELS)
        assert answer["result"] == sorted(CHANNELS, reverse=True)
        start = (await call_method(client, "public/get_time"))["result"]
        await client.read_until(lambda frame: channel_data(frame).get("timestamp", 0) > start + 60_000)
    for frame in client.frames:
        if "params" in frame:
            frames[frame["params"]["channel"]].append(frame["params"]["data"])
    return fast_market, frames


def channel_data(frame: Any) -> Any:
    found = frame.get("params", {}).get("data", {})
    return found if isinstance(found, dict) else {}


async def call_method(client: RecordingSocket, method: str, **params: Any) -> Any:
    return await client.request(jsonrpc="2.0", id=method, method=method, params=params)


async def get_result(market: SimulatorServer, method: str, **params: Any) -> Any:
    return (await market.client.get(f"/deribit/api/v2/{method}", params=params)).json()["result"]


async def test_streamed_trades_are_gapless_and_equal_those_of_rest(received: ReceivedData) -> None:
    market, frames = received
    trades = [trade for batch in frames["trades.BTC-PERPETUAL.100ms"] for trade in batch]
    assert len(trades) > 20
    assert is_gapless([trade["trade_seq"] for trade in trades])
    query = {"instrument_name": "BTC-PERPETUAL", "start_seq": trades[0]["trade_seq"], "count": len(trades)}
    response = await get_result(market, "public/get_last_trades_by_instrument", **query)
    assert response["trades"] == trades
    times = {"start_timestamp": trades[0]["timestamp"], "end_timestamp": trades[-1]["timestamp"], "count": 1000}
    response = await get_result(
        market, "public/get_last_trades_by_instrument_and_time", instrument_name="BTC-PERPETUAL", **times
    )
    assert response == {"trades": trades, "has_more": False}


async def test_channel_of_a_kind_has_trades_of_all_its_instruments(received: ReceivedData) -> None:
    _, frames = received
    names = {trade["instrument_name"] for batch in frames["trades.spot.any.agg2"] for trade in batch}
    assert names == {"BTC_USDC", "ETH_USDC", "BTC_USDT", "ETH_USDT"}


async def test_chart_data_equal_bars_of_their_trades(received: ReceivedData) -> None:
    market, _ = received
    minute = MONDAY_MS + 43_200_000
    query = {"instrument_name": "BTC-PERPETUAL", "start_timestamp": minute, "end_timestamp": minute, "resolution": "1"}
    chart = await get_result(market, "public/get_tradingview_chart_data", **query)
    times = {"start_timestamp": minute, "end_timestamp": minute + 59_999, "count": 1000}
    trades = (
        await get_result(market, "public/get_last_trades_by_instrument", instrument_name="BTC-PERPETUAL", **times)
    )["trades"]
    prices = [trade["price"] for trade in trades]
    assert chart["ticks"] == [minute]
    ends = (chart["open"], chart["high"], chart["low"], chart["close"])
    assert ends == ([prices[0]], [max(prices)], [min(prices)], [prices[-1]])
    assert chart["cost"] == [sum(trade["amount"] for trade in trades)]
    assert chart["volume"][0] == pytest.approx(sum(trade["amount"] / trade["price"] for trade in trades), rel=1e-6)


async def test_channels_begin_with_the_current_value_and_then_have_every_change(received: ReceivedData) -> None:
    _, frames = received
    indices = [frame["timestamp"] for frame in frames["deribit_price_index.btc_usd"]]
    assert {second - first for first, second in pairwise(indices[1:])} == {1000}
    tickers = frames["ticker.BTC-PERPETUAL.100ms"]
    assert len({frame["timestamp"] for frame in tickers}) == len(tickers) > 20
    for frame in tickers:
        assert 0 < frame["best_ask_price"] - frame["best_bid_price"] < 5
        assert frame["index_price"] == pytest.approx(frame["last_price"], rel=1e-3)
    quotes = [frame["timestamp"] for frame in frames["quote.ETH-PERPETUAL"]]
    assert quotes == sorted(set(quotes))


async def test_order_book_maintained_from_changes_equals_the_grouped_book(received: ReceivedData) -> None:
    _, frames = received
    snapshot, *changes = frames["book.BTC-PERPETUAL.100ms"]
    assert snapshot["type"] == "snapshot"
    number, books = snapshot["change_id"], dict[int, Any]()
    sides: dict[str, dict[float, float]] = {"bids": {}, "asks": {}}
    for change in (snapshot, *changes):
        assert change.get("prev_change_id", number) == number
        number = change["change_id"]
        for name, levels in sides.items():
            for action, price, amount in change[name]:
                assert (price in levels) == (action != "new")
                if action == "delete":
                    del levels[price]
                else:
                    levels[price] = amount
        books[number] = {
            name: sorted(map(list, levels.items()), reverse=name == "bids")[:10] for name, levels in sides.items()
        }
    grouped = [frame for frame in frames["book.BTC-PERPETUAL.none.10.100ms"] if frame["change_id"] in books]
    assert len(grouped) > 5
    for frame in grouped:
        assert {name: frame[name] for name in sides} == books[frame["change_id"]]


async def test_frames_have_the_shape_of_recorded_ones(received: ReceivedData) -> None:
    _, frames = received
    seen = set()
    for frame in socket_frames("deribit"):
        channel = frame.get("params", {}).get("channel")
        if channel and channel.replace("eth_usd", "btc_usd") in frames:
            ours = frames[channel.replace("eth_usd", "btc_usd")]
            if ours and channel != "platform_state":
                assert same_shape(ours[0 if channel.startswith("book") else -1], frame["params"]["data"])
                seen.add(channel.partition(".")[0])
    assert {"deribit_price_index", "ticker", "trades", "quote", "chart", "book"} <= seen


async def test_subscribe_with_a_raw_channel_is_refused_without_a_login(market: SimulatorServer) -> None:
    async with connect_socket(market, PATH) as client:
        channels = ["quote.BTC-PERPETUAL", "trades.BTC-PERPETUAL.raw"]
        refused = await call_method(client, "public/subscribe", channels=channels)
        assert refused["error"] == {"code": 13778, "message": "raw_subscriptions_not_available_for_unauthorized"}
        assert (await call_method(client, "public/unsubscribe", channels=channels))["result"] == []
        token = await call_method(
            client, "public/auth", grant_type="client_credentials", client_id="me", client_secret="x"
        )
        assert token["result"]["token_type"] == "bearer"
        assert len((await call_method(client, "public/subscribe", channels=channels))["result"]) == 2
        await client.read_until(lambda frame: frame.get("params", {}).get("channel") == "trades.BTC-PERPETUAL.raw")
        assert (await call_method(client, "public/unsubscribe_all"))["result"] == "ok"


async def test_client_that_answers_heartbeats_stays_connected(fast_market: SimulatorServer) -> None:
    async with connect_socket(fast_market, PATH) as client:
        assert (await call_method(client, "public/set_heartbeat", interval=5))["error"]["code"] == -32602
        assert (await call_method(client, "public/set_heartbeat", interval=10))["result"] == "ok"
        for _ in range(4):
            await client.read_until(lambda frame: frame.get("params", {}).get("type") == "test_request")
            assert (await call_method(client, "public/test"))["result"]["version"]
        assert (await call_method(client, "public/disable_heartbeat"))["result"] == "ok"


async def test_client_that_ignores_heartbeats_is_disconnected(fast_market: SimulatorServer) -> None:
    async with connect_socket(fast_market, PATH) as client:
        await call_method(client, "public/set_heartbeat", interval=10)
        await client.read_until(lambda frame: frame.get("params", {}).get("type") == "test_request")
        assert (await client.close_frame())[0] == 1000


async def test_auth_over_http_returns_a_token(market: SimulatorServer) -> None:
    credentials = {"grant_type": "client_credentials", "client_id": "me", "client_secret": "x"}
    assert (await get_result(market, "public/auth", **credentials))["token_type"] == "bearer"
    refused = await market.client.get("/deribit/api/v2/public/auth", params=credentials | {"grant_type": "password"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 13004)


async def test_too_many_calls_close_the_connection(market: SimulatorServer) -> None:
    async with connect_socket(market, PATH) as client:
        for number in range(20):
            await client.send(jsonrpc="2.0", id=number, method="public/subscribe", params={"channels": []})
        await client.close_frame()
    errors = [frame["error"] for frame in client.frames if "error" in frame]
    assert errors == [{"code": 10028, "message": "too_many_requests"}]


WRONG_CALLS = [
    ({"method": "public/dance"}, -32601),
    ({"method": "private/get_account_summary"}, 13009),
    ({"method": "public/ticker", "params": {"instrument_name": "BTC-NEVER"}}, 13020),
    ({"method": "public/ticker"}, -32602),
    ({"method": "public/get_index_price", "params": {"index_name": "usdt_usd"}}, -32602),
    ({"method": "public/test", "params": {"expected_result": "exception"}}, 11094),
    ({"method": "public/subscribe", "params": {"channels": "all"}}, -32602),
    ({"method": "public/test", "params": []}, None),
    ({}, -32600),
]


@pytest.mark.parametrize(("message", "code"), WRONG_CALLS, ids=lambda value: str(value)[:50])
async def test_wrong_call_gets_deribits_error_code(
    market: SimulatorServer, message: dict[str, Any], code: int | None
) -> None:
    async with connect_socket(market, PATH) as client:
        answer = await client.request(jsonrpc="2.0", id="a", **message)
    assert answer.get("error", {}).get("code") == code


UNREADABLE_CALLS = [
    ("{", -32700),
    ("[]", 11050),
    (f'{{"a":"{"x" * 33_000}"}}', -32600),
    ("[" * 30_000, -32700),
    (f'{{"id":{"[" * 400}{"]" * 400}}}', -32700),
]


@pytest.mark.parametrize(("text", "code"), UNREADABLE_CALLS, ids=lambda value: str(value)[:20])
async def test_malformed_call_gets_a_parse_error(market: SimulatorServer, text: str, code: int) -> None:
    async with connect_socket(market, PATH) as client:
        await client.connection.send(text)
        assert (await client.read_until(lambda frame: "error" in frame))["error"]["code"] == code


async def test_nested_body_is_refused_and_trades_from_a_future_seq_are_empty(market: SimulatorServer) -> None:
    nested = await market.client.post("/deribit/api/v2", content='{"a":' + "[" * 30_000)
    assert (nested.status_code, nested.json()["error"]["code"]) == (400, -32700)
    for number in (10**13, 2**63 - 1, 10**20):
        found = await get_result(
            market, "public/get_last_trades_by_instrument", instrument_name="BTC-PERPETUAL", start_seq=number
        )
        assert (found["trades"], found["has_more"]) == ([], False)


async def test_unknown_path_or_method_is_refused_as_by_deribit(market: SimulatorServer) -> None:
    answer = await market.client.put("/deribit/api/v2/public/ticker")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert answer.json()["error"] == {"code": 11050, "message": "bad_request"}
    assert (await market.client.get("/deribit/api/v1/public/ticker")).status_code == 404
    assert (await market.client.get("/deribit/api/v2/public/dance")).json()["error"]["code"] == -32601


async def test_errors_over_http_have_a_status(market: SimulatorServer) -> None:
    client = market.client
    assert (await client.get("/deribit/api/v2/public/subscribe")).json()["error"]["code"] == 10030
    assert (await client.get("/deribit/api/v2/private/get_positions")).status_code == 401
    assert (await client.get("/deribit/api/v2/public/ticker")).status_code == 400
    assert (await client.post("/deribit/api/v2", content="{")).json()["error"]["code"] == -32700
    body = {"jsonrpc": "2.0", "id": 7, "method": "public/get_time"}
    answer = (await client.post("/deribit/api/v2", json=body)).json()
    assert answer["id"] == 7
    assert abs(answer["result"] * 1000 - answer["usOut"]) < 1_000_000


async def test_listed_instruments_have_ticker_and_order_book(market: SimulatorServer) -> None:
    names = await get_result(market, "public/get_index_price_names")
    assert {"btc_usd", "eth_usd", "usdc_usdt"} <= set(names)
    assert "usdt_usd" not in names
    listed = await get_result(market, "public/get_instruments", currency="BTC", kind="future")
    assert [row["instrument_name"] for row in listed] == ["BTC-PERPETUAL"]
    for row in await get_result(market, "public/get_instruments", currency="any"):
        ticker = await get_result(market, "public/ticker", instrument_name=row["instrument_name"])
        assert Decimal(str(ticker["best_bid_price"])) % Decimal(str(row["tick_size"])) == 0
        book = await get_result(market, "public/get_order_book", instrument_name=row["instrument_name"], depth=3)
        assert [len(book["bids"]), len(book["asks"])] == [3, 3]
        assert book["bids"][0] == [book["best_bid_price"], book["best_bid_amount"]]


async def test_book_summaries_by_currency_and_instrument_agree(market: SimulatorServer) -> None:
    rows = await get_result(market, "public/get_book_summary_by_currency", currency="USDC", kind="future")
    assert {row["instrument_name"] for row in rows} == {
        f"{name}_USDC-PERPETUAL" for name in ("BTC", "ETH", "SOL", "XRP")
    }
    for row in rows:
        [alone] = await get_result(
            market, "public/get_book_summary_by_instrument", instrument_name=row["instrument_name"]
        )
        assert alone.keys() == row.keys()
        assert row["bid_price"] < row["mid_price"] < row["ask_price"]
        assert row["low"] <= row["last"] <= row["high"]
    spot = await get_result(market, "public/get_book_summary_by_currency", currency="BTC", kind="spot")
    assert {row["instrument_name"] for row in spot} == {"BTC_USDC", "BTC_USDT"}
    assert all("open_interest" not in row for row in spot)
