"""The simulator's faults, as clients of the exchanges see them."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
import websockets

from tests.simulator import MONDAY_MS, RecordingSocket, SimulatorServer, connect_socket, is_gapless, run_fast_simulator

EXCHANGE_PATHS = {
    "binance": ("/binance/ws", "/binance/api/v3/ticker/price?symbol=BTCUSDT"),
    "deribit": ("/deribit/ws/api/v2", "/deribit/api/v2/public/ticker?instrument_name=BTC-PERPETUAL"),
    "coingecko": ("/coingecko/v1?x_cg_pro_api_key=k", "/coingecko/api/v3/simple/price?ids=bitcoin&vs_currencies=usd"),
}
STREAM = "/binance/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade"
CLOCK_SPEED = 10
TIME_TOLERANCE_MS = 900_000  # of the simulator, which a busy machine may need between two requests


@pytest_asyncio.fixture(scope="module")
async def shared_market() -> AsyncIterator[SimulatorServer]:
    async with run_fast_simulator(MONDAY_MS + 43_200_000, CLOCK_SPEED) as market:
        yield market


@pytest_asyncio.fixture
async def market(shared_market: SimulatorServer) -> AsyncIterator[SimulatorServer]:
    yield shared_market
    await shared_market.clear_faults()


def symbol(frame: Any) -> str:
    return str(frame.get("data", {}).get("s"))


async def next_frames(client: RecordingSocket, count: int) -> list[Any]:
    before = len(client.texts)
    await client.read_until(lambda _: len(client.texts) >= before + count)
    return client.frames[before:]


@pytest.mark.parametrize("exchange", EXCHANGE_PATHS)
async def test_killed_exchange_refuses_requests_and_sockets_until_the_fault_ends(
    market: SimulatorServer, exchange: str
) -> None:
    path, address = EXCHANGE_PATHS[exchange]
    async with connect_socket(market, path) as client:
        await market.fault(exchange, "kill")
        assert await client.close_frame() == (None, "")
        with pytest.raises(httpx.RemoteProtocolError):
            await market.client.get(address)
        with pytest.raises(websockets.InvalidMessage):
            async with connect_socket(market, path):
                pass
    others = [EXCHANGE_PATHS[name][1] for name in EXCHANGE_PATHS if name != exchange]
    assert [(await market.client.get(other)).status_code for other in others] == [200, 200]
    await market.clear_faults()
    assert (await market.client.get(address)).status_code == 200
    async with connect_socket(market, path):
        pass


async def test_trades_missed_after_a_dropped_connection_are_available_over_rest(market: SimulatorServer) -> None:
    async with connect_socket(market, STREAM) as client:
        last = (await client.read_until(lambda frame: symbol(frame) == "BTCUSDT"))["data"]["a"]
        await market.fault("binance", "drop")
        assert await client.close_frame() == (None, "")
        last = [frame["data"]["a"] for frame in client.frames if symbol(frame) == "BTCUSDT"][-1]
    await asyncio.sleep(0.3)
    async with connect_socket(market, STREAM) as client:
        first = (await client.read_until(lambda frame: symbol(frame) == "BTCUSDT"))["data"]["a"]
    query = {"symbol": "BTCUSDT", "fromId": last + 1, "limit": 1000}
    missed = [trade["a"] for trade in (await market.client.get("/binance/api/v3/aggTrades", params=query)).json()]
    assert first in missed
    assert is_gapless([last, *missed])


STATUSES = [
    ("binance", 418, lambda answer: answer.json()["code"] == -1003 and answer.headers["retry-after"]),
    ("binance", 451, lambda answer: "restricted location" in answer.json()["msg"]),
    ("binance", 403, lambda answer: answer.text.startswith("<html>")),
    ("binance", 503, lambda answer: answer.json()["code"] == -1008),
    ("deribit", 429, lambda answer: answer.json()["error"]["code"] == 10028),
    ("deribit", 502, lambda answer: answer.text.startswith("<html>")),
    ("coingecko", 429, lambda answer: answer.json()["status"]["error_code"] == 429),
    ("coingecko", 403, lambda answer: answer.text.startswith("<html>")),
]


@pytest.mark.parametrize(("exchange", "status", "right"), STATUSES)
async def test_status_fault_applies_to_requests_and_upgrades(
    market: SimulatorServer, exchange: str, status: int, right: Any
) -> None:
    path, address = EXCHANGE_PATHS[exchange]
    await market.fault(exchange, "status", status=status)
    answer = await market.client.get(address)
    assert answer.status_code == status
    assert right(answer)
    with pytest.raises(websockets.InvalidStatus, match=str(status)):
        async with connect_socket(market, path):
            pass


async def test_refuse_fault_closes_new_sockets_with_its_code(market: SimulatorServer) -> None:
    await market.fault("deribit", "refuse", close=1013)
    async with connect_socket(market, EXCHANGE_PATHS["deribit"][0]) as client:
        assert (await client.close_frame())[0] == 1013


async def test_muted_instrument_resumes_after_the_fault(market: SimulatorServer) -> None:
    async with connect_socket(market, STREAM) as client:
        await market.fault("binance", "mute", "BTC-USDT")
        await next_frames(client, 2)  # which may have been on their way
        assert {symbol(frame) for frame in await next_frames(client, 10)} == {"ETHUSDT"}
        await market.clear_faults()
        await client.read_until(lambda frame: symbol(frame) == "BTCUSDT")


async def test_muted_reference_repeats_its_last_value() -> None:
    path = "/coingecko-pro/api/v3/simple/price?ids=bitcoin&vs_currencies=usd&include_last_updated_at=true"
    key = {"x-cg-pro-api-key": "k"}
    async with run_fast_simulator(speed=100) as market:
        await market.fault("coingecko", "mute")
        first = (await market.client.get(path, headers=key)).json()
        await asyncio.sleep(61 / 100)
        assert (await market.client.get(path, headers=key)).json() == first
        await market.clear_faults()
        later = (await market.client.get(path, headers=key)).json()
    assert later["bitcoin"]["last_updated_at"] > first["bitcoin"]["last_updated_at"]


async def test_delay_fault_sends_frames_late_but_in_order(market: SimulatorServer) -> None:
    async with connect_socket(market, STREAM) as client:
        await market.fault("binance", "delay", ms=3000)
        entries = (await market.ledger())["entries"]
        sent = max((int(e["id"]) for e in entries if (e["kind"], e["instrument"]) == ("trade", "BTC-USDT")), default=0)
        frame = await client.read_until(lambda frame: symbol(frame) == "BTCUSDT" and frame["data"]["a"] > sent)
        entries = (await market.ledger())["entries"]
        [entry] = [e for e in entries if (e["kind"], e["id"]) == ("trade", str(frame["data"]["a"]))][-1:]
        assert entry["faults"] == ["delay"]
        assert entry["sent"] - frame["data"]["T"] >= 3000
        numbers = [f["data"]["a"] for f in await next_frames(client, 20) if symbol(f) == "BTCUSDT"]
        assert is_gapless(numbers)
        await market.clear_faults()
        await next_frames(client, 10)
        assert is_gapless([f["data"]["a"] for f in client.frames if symbol(f) == "BTCUSDT"])


async def test_reorder_and_duplicate_faults_apply_to_their_instrument(market: SimulatorServer) -> None:
    async with connect_socket(market, STREAM) as client:
        await market.fault("binance", "reorder", "BTC-USDT", size=3)
        await next_frames(client, 40)
        numbers = [f["data"]["a"] for f in client.frames if symbol(f) == "BTCUSDT"]
        assert numbers != sorted(numbers)
        assert len(set(numbers)) == len(numbers)
        await market.clear_faults()
        await market.fault("binance", "duplicate", "ETH-USDT", times=3)
        await next_frames(client, 5)
        numbers = [f["data"]["a"] for f in await next_frames(client, 30) if symbol(f) == "ETHUSDT"]
        assert max(map(numbers.count, numbers)) == 3


@pytest.mark.parametrize("exchange", ["binance", "deribit", "coingecko"])
async def test_garbage_fault_makes_every_response_unusable(market: SimulatorServer, exchange: str) -> None:
    await market.fault(exchange, "garbage")
    texts = [(await market.client.get(EXCHANGE_PATHS[exchange][1])).text for _ in range(6)]
    usable = [text for text in texts if is_price_like(text)]
    assert not usable
    assert len(set(map(garbage_kind, texts))) == 3


def is_price_like(text: str) -> bool:
    """Return whether a text is JSON with numbers or texts as values."""
    try:
        body = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return any(isinstance(value, str | int | float) for value in leaf_values(body))


def leaf_values(body: Any) -> list[Any]:
    return [leaf for value in body.values() for leaf in leaf_values(value)] if isinstance(body, dict) else [body]


def garbage_kind(text: str) -> str:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return "page" if text.startswith("<") else "truncated"
    return "wrong types"


async def test_garbage_fault_replaces_every_nth_frame(market: SimulatorServer) -> None:
    async with connect_socket(market, STREAM) as client:
        await market.fault("binance", "garbage", every=4)
        before = await next_texts(client, 40)
    broken = [text for text in before if not is_price_like(text)]
    assert 5 <= len(broken) <= 12


async def next_texts(client: RecordingSocket, count: int) -> list[str]:
    async with asyncio.timeout(60):
        return [await client.connection.recv(decode=True) for _ in range(count)]


async def test_price_fault_changes_every_price_of_its_instrument(market: SimulatorServer) -> None:
    address = "/binance/api/v3/ticker/price?symbols=%5B%22BTCUSDT%22,%22ETHUSDT%22%5D"
    right = [Decimal(row["price"]) for row in (await market.client.get(address)).json()]
    await market.fault("binance", "price", "BTC-USDT", percent=10)
    wrong = [Decimal(row["price"]) for row in (await market.client.get(address)).json()]
    assert wrong[0] / right[0] == pytest.approx(Decimal("1.1"), rel=Decimal("0.01"))
    assert wrong[1] / right[1] == pytest.approx(Decimal(1), rel=Decimal("0.01"))
    async with connect_socket(market, "/binance/ws/btcusdt@bookTicker/btcusdt@trade/btcusdt@kline_1s") as client:
        frames = await next_frames(client, 10)
    prices = [Decimal(frame.get("p") or frame.get("b") or frame["k"]["c"]) for frame in frames]
    assert all(price / right[0] == pytest.approx(Decimal("1.1"), rel=Decimal("0.01")) for price in prices)
    assert all(price.as_tuple().exponent == -8 for price in prices)
    async with connect_socket(market, "/binance/ws/btcusdt@depth@100ms") as client:
        [update] = await next_frames(client, 1)
    book = (await market.client.get("/binance/api/v3/depth?symbol=BTCUSDT&limit=5")).json()
    assert update["b"]
    for price, _ in (*update["b"], *update["a"], *book["bids"], *book["asks"]):
        assert Decimal(price) / right[0] == pytest.approx(Decimal("1.1"), rel=Decimal("0.01"))
    async with connect_socket(market, "/binance/ws/btcusdt@aggTrade") as client:
        trades = await next_frames(client, 5)
    assert is_gapless([trade["a"] for trade in trades])
    assert all(Decimal(trade["p"]) / right[0] == pytest.approx(Decimal("1.1"), rel=Decimal("0.01")) for trade in trades)
    await market.fault("deribit", "price", percent=-50)
    ticker = (await market.client.get(EXCHANGE_PATHS["deribit"][1])).json()["result"]
    assert Decimal(str(ticker["index_price"])) / right[0] == pytest.approx(Decimal("0.5"), rel=Decimal("0.01"))
    await market.fault("coingecko", "price", "BTC-USD", percent=100)
    coin = (await market.client.get(EXCHANGE_PATHS["coingecko"][1])).json()["bitcoin"]["usd"]
    assert coin / float(right[0]) == pytest.approx(2, rel=0.02)


async def test_clock_fault_shifts_every_time(market: SimulatorServer) -> None:
    hour = 3_600_000
    for exchange, ms in (("binance", -hour), ("deribit", -hour), ("coingecko", -hour)):
        await market.fault(exchange, "clock", ms=ms)
    at = (await market.client.get("/market")).json()["time"] - hour
    assert abs((await market.client.get("/binance/api/v3/time")).json()["serverTime"] - at) < TIME_TOLERANCE_MS
    assert abs((await market.client.get("/deribit/api/v2/public/get_time")).json()["result"] - at) < TIME_TOLERANCE_MS
    assert (
        abs((await market.client.get(EXCHANGE_PATHS["deribit"][1])).json()["result"]["timestamp"] - at)
        < TIME_TOLERANCE_MS
    )
    coins = (await market.client.get(EXCHANGE_PATHS["coingecko"][1] + "&include_last_updated_at=true")).json()
    assert abs(coins["bitcoin"]["last_updated_at"] * 1000 - at) < TIME_TOLERANCE_MS
    async with connect_socket(market, "/binance/ws/btcusdt@aggTrade/btcusdt@kline_1s") as client:
        trade = await client.read_until(lambda frame: frame["e"] == "aggTrade")
        bar = await client.read_until(lambda frame: frame["e"] == "kline")
    assert abs(trade["T"] - at) < TIME_TOLERANCE_MS
    assert bar["E"] < bar["k"]["t"]  # the clock is wrong, the bar's bounds are right


async def test_unknown_enum_fault_sends_new_values(market: SimulatorServer) -> None:
    for exchange in ("binance", "deribit"):
        await market.fault(exchange, "unknown_enum")
    info = (await market.client.get("/binance/api/v3/exchangeInfo?symbol=BTCUSDT")).json()
    assert info["symbols"][0]["status"] == "SOMETHING_NEW"
    assert (await market.client.get(EXCHANGE_PATHS["deribit"][1])).json()["result"]["state"] == "SOMETHING_NEW"
    async with connect_socket(market, "/binance/ws/btcusdt@aggTrade") as client:
        assert (await client.read_until(bool))["e"] == "SOMETHING_NEW"


async def test_shutdown_is_announced_to_open_sockets_alone(market: SimulatorServer) -> None:
    channels = {"channels": ["platform_state"]}
    async with connect_socket(market, STREAM) as old, connect_socket(market, EXCHANGE_PATHS["deribit"][0]) as other:
        await other.request(id=1, method="public/subscribe", params=channels)
        await market.fault("binance", "shutdown", after=10)
        await market.fault("deribit", "shutdown", after=10)
        announced = await old.read_until(lambda frame: frame["stream"] == "!serverShutdown")
        assert announced["data"]["e"] == "serverShutdown"
        announced = await other.read_until(lambda frame: frame.get("method") == "subscription")
        assert announced["params"]["data"] == {"maintenance": True}
        async with connect_socket(market, STREAM) as new:
            assert (await old.close_frame())[0] == 1001
            assert (await other.close_frame())[0] == 1001
            await next_frames(new, 3)
    assert any(symbol(frame) == "BTCUSDT" for frame in old.frames)


async def test_fault_ends_after_its_time_or_by_its_id(market: SimulatorServer) -> None:
    body = {"exchange": "binance", "fault": "mute", "seconds": 2}
    one = (await market.client.post("/faults", json=body)).json()
    two = (await market.client.post("/faults", json={**body, "seconds": None})).json()
    await asyncio.sleep(2.5 / CLOCK_SPEED)
    active = (await market.client.get("/faults")).json()["active"]
    assert [fault["id"] for fault in active] == [two["id"]]
    assert (await market.client.delete(f"/faults/{two['id']}")).status_code == 204
    assert (await market.client.delete(f"/faults/{one['id']}")).status_code == 404


WRONG_FAULTS = [
    ({"exchange": "binance", "fault": "dance"}, "there are drop, kill"),
    ({"exchange": "kraken", "fault": "kill"}, "binance, deribit, coingecko"),
    ({"exchange": "binance", "fault": "delay", "hours": 1}, "it takes ms"),
    ({"exchange": "binance", "fault": "delay", "ms": "long"}, "must be a number"),
    ({"exchange": "binance", "fault": "status", "status": 404}, "429"),
    ({"exchange": "binance", "fault": "mute", "instrument": "BTCUSDT"}, "BASE-QUOTE"),
    ({"exchange": "binance", "fault": "mute", "instrument": "BTC-USD"}, "it has BTC-USDT"),
    ({"exchange": "binance", "fault": "refuse", "close": 7}, "from 1000 on"),
    ({"exchange": "binance", "fault": "mute", "seconds": -1}, "positive"),
    ({"fault": "kill"}, "exchange must be"),
]


@pytest.mark.parametrize(("body", "part"), WRONG_FAULTS)
async def test_impossible_fault_is_refused_with_the_possible_ones(
    market: SimulatorServer, body: dict[str, Any], part: str
) -> None:
    answer = await market.client.post("/faults", json=body)
    assert answer.status_code == 422
    assert part in answer.text
