"""The simulated Binance: its streams and REST responses agree, and its limits are enforced."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio
import websockets

from services.simulator.binance import streams
from services.simulator.market.listings import BINANCE
from services.simulator.market.tape_candles import LENGTHS_MS
from tests.recorded_frames import same_shape, socket_frames
from tests.simulator import MONDAY_MS, SimulatorServer, connect_socket, is_gapless, run_fast_simulator

API = "/binance/api/v3"
KLINES = ("kline_1s", "kline_1m", "kline_1d", "kline_1w")
STREAMS = ("aggTrade", "trade", "bookTicker", "miniTicker", "ticker", "depth@100ms", "ticker_1h", "avgPrice", *KLINES)
COMBINED = "/binance/stream?streams=" + "/".join(f"btcusdt@{kind}" for kind in STREAMS)
CLOCK_SPEED = 40
SLOW_CLOCK_SPEED = 0.1  # so that a busy machine sends all requests within one minute of the simulator


@pytest_asyncio.fixture(scope="module")
async def market() -> AsyncIterator[SimulatorServer]:
    async with run_fast_simulator(MONDAY_MS + 43_200_000) as market:
        yield market


@pytest_asyncio.fixture(scope="module")
async def received() -> AsyncIterator[tuple[SimulatorServer, dict[str, list[Any]]]]:
    """A simulator, and the frames of each stream around the midnight between Sunday and Monday."""
    async with run_fast_simulator(MONDAY_MS - 65_000, CLOCK_SPEED) as market:
        frames = defaultdict(list)
        async with connect_socket(market, COMBINED) as stream:
            await stream.read_until(lambda frame: frame["data"].get("E", 0) >= MONDAY_MS + 63_000)
        for frame in stream.frames:
            frames[frame["stream"].removeprefix("btcusdt@")].append(frame["data"])
        yield market, frames


async def get(market: SimulatorServer, path: str, **query: Any) -> Any:
    return (await market.client.get(f"{API}/{path}", params=query)).json()


ReceivedFrames = tuple[SimulatorServer, dict[str, list[Any]]]


async def test_streamed_trades_are_gapless_and_equal_those_of_rest(received: ReceivedFrames) -> None:
    market, frames = received
    trades = frames["aggTrade"]
    assert len(trades) > 100
    assert is_gapless([trade["a"] for trade in trades])
    response = await get(market, "aggTrades", symbol="BTCUSDT", fromId=trades[0]["a"], limit=len(trades))
    assert response == [{key: trade[key] for key in "apqflTmM"} for trade in trades]
    by_time = {"startTime": trades[0]["T"], "endTime": trades[-1]["T"], "limit": 1000}
    assert [row["a"] for row in await get(market, "aggTrades", symbol="BTCUSDT", **by_time)] == [t["a"] for t in trades]


async def test_fills_add_up_to_their_trades(received: ReceivedFrames) -> None:
    _, frames = received
    fills = {fill["t"]: fill for fill in frames["trade"]}
    assert is_gapless(list(fills))
    for trade in [trade for trade in frames["aggTrade"] if trade["l"] in fills]:
        parts = [fills[number] for number in range(trade["f"], trade["l"] + 1)]
        assert sum(Decimal(part["q"]) for part in parts) == Decimal(trade["q"])
        assert {(part["p"], part["T"], part["m"]) for part in parts} == {(trade["p"], trade["T"], trade["m"])}


@pytest.mark.parametrize("interval", ["1s", "1m", "1d", "1w"])
async def test_streamed_klines_close_once_and_equal_rest_and_trades(received: ReceivedFrames, interval: str) -> None:
    market, frames = received
    bars = [frame["k"] for frame in frames[f"kline_{interval}"]]
    closed = [bar for bar in bars if bar["x"]]
    opens = [bar["t"] for bar in closed]
    assert len(opens) == len(set(opens))
    assert opens == sorted(opens)
    span = closed[-1]["T"] + 1 - closed[-1]["t"]
    assert len(closed) >= {"1s": 30}.get(interval, 1)
    assert all(second - first == span for first, second in pairwise(opens))
    for bar in closed[-3:]:
        [row] = await get(market, "klines", symbol="BTCUSDT", interval=interval, startTime=bar["t"], limit=1)
        assert row == [*(bar[key] for key in "tohlcvTqnVQ"), "0"]
        compare_bar(bar, [trade for trade in frames["aggTrade"] if bar["t"] <= trade["T"] <= bar["T"]])


def compare_bar(bar: Any, trades: list[Any]) -> None:
    """Compare a bar with its trades, if all of them were received."""
    if not trades or trades[0]["f"] != bar["f"]:
        return
    volume = sum(Decimal(trade["q"]) for trade in trades)
    turnover = sum(Decimal(trade["q"]) * Decimal(trade["p"]) for trade in trades)
    prices = [Decimal(trade["p"]) for trade in trades]
    assert [Decimal(bar[key]) for key in "vqhl"] == [volume, turnover, max(prices), min(prices)]
    assert (bar["o"], bar["c"], bar["L"]) == (trades[0]["p"], trades[-1]["p"], trades[-1]["l"])


async def test_quote_contains_the_price_of_the_last_trade(received: ReceivedFrames) -> None:
    _, frames = received
    ids = [quote["u"] for quote in frames["bookTicker"]]
    assert ids == sorted(set(ids))
    for quote in frames["bookTicker"]:
        before = [trade for trade in frames["aggTrade"] if trade["T"] <= quote["u"]]
        if before:
            assert Decimal(before[-1]["p"]) in (Decimal(quote["b"]), Decimal(quote["a"]))
        assert Decimal(quote["a"]) > Decimal(quote["b"])


async def test_rolling_tickers_agree_and_mean_prices_cover_five_minutes(received: ReceivedFrames) -> None:
    _, frames = received
    for window, day in zip(frames["ticker_1h"], frames["ticker"], strict=False):
        assert (window["e"], window["O"] % 60_000) == ("1hTicker", 0)
        assert 3_600_000 <= window["C"] - window["O"] < 3_660_000
        assert (window["C"], window["c"], window["L"]) == (day["C"], day["c"], day["L"])
        assert Decimal(window["l"]) <= Decimal(window["w"]) <= Decimal(window["h"])
    assert len(frames["ticker"]) - 1 <= len(frames["ticker_1h"]) <= len(frames["ticker"])
    assert len(frames["ticker_1h"]) > 10  # of 128; on a busy machine the fast clock skips some
    means = frames["avgPrice"]
    assert {mean["i"] for mean in means} == {"5m"}
    assert all(mean["T"] <= mean["E"] < mean["T"] + 1000 for mean in means)


async def test_depth_updates_are_contiguous_and_end_with_the_quote(received: ReceivedFrames) -> None:
    _, frames = received
    updates, quotes = frames["depth@100ms"], {quote["u"]: quote for quote in frames["bookTicker"]}
    assert len(updates) > 20
    assert all(second["U"] == first["u"] + 1 for first, second in pairwise(updates))
    for update in [update for update in updates if update["u"] in quotes]:
        quote = quotes[update["u"]]
        assert [quote["b"], quote["B"]] == next(level for level in update["b"] if Decimal(level[1]))
        assert [quote["a"], quote["A"]] == next(level for level in update["a"] if Decimal(level[1]))


async def test_order_book_maintained_from_the_stream_equals_that_of_rest() -> None:
    streams = "/binance/ws/btcusdt@depth@100ms/btcusdt@depth5@100ms"
    async with run_fast_simulator(speed=20) as market, connect_socket(market, streams) as stream:
        first = await stream.read_until(lambda frame: "U" in frame)
        book = await get(market, "depth", symbol="BTCUSDT", limit=1000)
        while book["lastUpdateId"] < first["U"]:
            book = await get(market, "depth", symbol="BTCUSDT", limit=1000)
        number, bids, asks = book["lastUpdateId"], dict(book["bids"]), dict(book["asks"])
        books = dict[int, Any]()
        for _ in range(60):  # until a book is requested just when an update ends
            response = await get(market, "depth", symbol="BTCUSDT", limit=5)
            expected_id = response["lastUpdateId"]
            await stream.read_until(partial(has_received, expected_id))
            for update in [frame for frame in stream.frames if frame.get("u", 0) > number]:
                assert update["U"] <= number + 1
                number = update["u"]
                bids, asks = (apply_levels(side, update[name]) for side, name in ((bids, "b"), (asks, "a")))
                books[number] = {"bids": best_levels(bids)[::-1][:5], "asks": best_levels(asks)[:5]}
            if expected_id in books:
                break
    best_five = [frame for frame in stream.frames if frame.get("lastUpdateId") in books]
    assert best_five
    for each in (response, *best_five):
        assert {"bids": each["bids"], "asks": each["asks"]} == books[each["lastUpdateId"]]


def has_received(number: int, frame: Any) -> bool:
    return bool(frame.get("lastUpdateId", 0) >= number)


def apply_levels(side: dict[str, str], levels: list[list[str]]) -> dict[str, str]:
    return {price: size for price, size in (side | dict(levels)).items() if Decimal(size)}


def best_levels(side: dict[str, str]) -> list[list[str]]:
    return [[price, side[price]] for price in sorted(side, key=Decimal)]


async def test_frames_have_the_shape_of_recorded_ones(received: ReceivedFrames) -> None:
    _, frames = received
    seen = set()
    for frame in socket_frames("binance"):
        kind = frame.get("stream", "").partition("@")[2]
        if kind in frames:
            assert same_shape(frames[kind][-1], frame["data"])
            seen.add(kind)
    assert seen == {"bookTicker", "aggTrade", "trade", "kline_1m", "miniTicker", "ticker", "depth@100ms"}


async def test_ledger_lists_every_sent_message(received: ReceivedFrames) -> None:
    market, frames = received
    ledger = (await market.client.get("/ledger?exchange=binance&instrument=BTC-USDT&limit=100000")).json()
    for stream, kind, key in (("aggTrade", "trade", "a"), ("bookTicker", "quote", "u"), ("trade", "fill", "t")):
        sent = [entry["id"] for entry in ledger["entries"] if entry["kind"] == kind]
        ids = [str(frame[key]) for frame in frames[stream]]
        assert sent[: len(ids)] == ids
    last = ledger["entries"][-1]["number"]
    assert (await market.client.get("/ledger", params={"after": last})).json()["entries"] == []
    assert sum(row["count"] for row in ledger["totals"]) >= len(ledger["entries"])


async def test_two_clients_receive_the_same_trades(market: SimulatorServer) -> None:
    async with (
        connect_socket(market, "/binance/ws/ethusdt@aggTrade") as one,
        connect_socket(market, "/binance/ws") as two,
    ):
        assert await two.request(method="SUBSCRIBE", params=["ethusdt@aggTrade"], id=1) == {"result": None, "id": 1}
        trade = await one.read_until(lambda frame: frame["e"] == "aggTrade")
        if not any(frame.get("a") == trade["a"] for frame in two.frames):
            assert await two.read_until(lambda frame: frame.get("a", 0) >= trade["a"])
        assert trade in two.frames or two.frames[1]["a"] == trade["a"] + 1


UUID = "0f9b6bd5-8b4e-4cf5-ae0f-2fe86eb5a0e3"
CONTROL_CALLS = [
    ({"method": "SUBSCRIBE", "params": ["btcusdt@trade", "nonsense@trade"], "id": 1}, {"result": None, "id": 1}),
    ({"method": "LIST_SUBSCRIPTIONS", "id": "a1"}, {"result": [], "id": "a1"}),
    ({"method": "GET_PROPERTY", "params": ["combined"], "id": 2}, {"result": False, "id": 2}),
    ({"method": "SET_PROPERTY", "params": ["combined", True], "id": 5}, {"result": None, "id": 5}),
    *(
        ({"method": "GET_PROPERTY", "params": ["combined"], "id": each}, {"result": False, "id": each})
        for each in (UUID, -(2**63), 2**63 - 1, None, "a_b-c")
    ),
    ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 5}, 1),
    ({"method": "GET_PROPERTY", "params": ["colour"], "id": 5}, 0),
    ({"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 5}, 2),
    ({"method": "SUBSCRIBE", "params": ["btcusdt"], "id": 5}, 2),
    ({"method": "DANCE", "id": 5}, 2),
    ({"method": "LIST_SUBSCRIPTIONS", "params": ["btcusdt@trade"], "id": 5}, 2),
    ({"id": 5}, 2),
]


@pytest.mark.parametrize(("message", "answer"), CONTROL_CALLS, ids=lambda value: str(value)[:40])
async def test_control_message_gets_binances_response(
    market: SimulatorServer, message: dict[str, Any], answer: Any
) -> None:
    async with connect_socket(market, "/binance/ws") as stream:
        got = await stream.request(**message)
    assert got == answer if isinstance(answer, dict) else got["error"]["code"] == answer


@pytest.mark.parametrize("number", ['"' + "x" * 37 + '"', '""', '"ä"', "1.5", "true", "[1]", str(2**63)])
async def test_invalid_id_is_refused_and_not_echoed(market: SimulatorServer, number: str) -> None:
    async with connect_socket(market, "/binance/ws") as stream:
        await stream.connection.send(f'{{"method":"LIST_SUBSCRIPTIONS","id":{number}}}')
        refused = await stream.read_until(lambda frame: "error" in frame)
    assert (refused["error"]["code"], refused["id"]) == (2, None)


@pytest.mark.parametrize("text", ["[" * 30_000, '{"id":' * 5_000, f'{{"method":{"[" * 400}{"]" * 400}}}'])
async def test_too_deeply_nested_json_is_refused(market: SimulatorServer, text: str) -> None:
    async with connect_socket(market, "/binance/ws") as stream:
        await stream.connection.send(text)
        assert (await stream.read_until(lambda frame: "error" in frame))["error"]["code"] == 3


def test_symbol_with_lookalike_letters_is_unknown() -> None:
    names = ("btcusdt@trade", "btcu\u017fdt@trade", "l\u0131nkusdt@trade")  # upper() makes ASCII letters of the others
    found = [stream.listing is not None for name in names if (stream := streams.parse(name))]
    assert found == [True, False, False]


async def test_socket_with_all_streams_does_not_block_the_loop(market: SimulatorServer) -> None:
    kinds = [*streams.FRAME_SOURCES, *(f"kline_{interval}" for interval in LENGTHS_MS)]
    names = [f"{symbol.lower()}@{kind}" for symbol in BINANCE for kind in kinds]
    async with connect_socket(market, "/binance/ws") as stream:
        await stream.request(method="SUBSCRIBE", params=names[::2], id=1)
        await stream.request(method="SUBSCRIBE", params=names[1::2], id=2)
        await stream.read_until(
            lambda frame: frame.get("e") == "24hrTicker"
        )  # everything that is computed once has been computed
        turns = asyncio.create_task(longest_turn())
        await stream.read_until(lambda frame: frame.get("e") == "24hrTicker" and frame["s"] == "BTCUSDT")
        await stream.read_until(lambda frame: frame.get("e") == "24hrTicker" and frame["s"] == "LTCUSDT")
        turns.cancel()
        assert await turns < 0.05


async def longest_turn() -> float:
    """Until cancelled, measure the longest CPU time in seconds between two turns of the event loop."""
    longest, since = 0.0, time.thread_time()
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0)
            longest, since = max(longest, time.thread_time() - since), time.thread_time()
    return longest


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (None, "https://evil.example", 403),
        ("evil.example:8000", "http://evil.example:8000", 403),
        (None, "null", 403),
        ("localhost:8000", "http://localhost:8000", 101),
        (None, "http://localhost:5173", 101),  # which is in CORS_ALLOWED_ORIGINS
        ("simulator:8000", None, 101),  # not a page
    ],
)
@pytest.mark.parametrize("path", ["/binance/ws", "/deribit/ws/api/v2", "/coingecko-pro/v1?x_cg_pro_api_key=a"])
async def test_sockets_are_open_only_to_pages_of_allowed_origins(
    market: SimulatorServer, path: str, host: str | None, origin: str | None, status: int
) -> None:
    sent = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    sent |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} | ({"Host": host} if host else {})
    sent |= {"Origin": origin} if origin else {}
    async with market.client.stream("GET", path, headers=sent) as answer:
        assert answer.status_code == status


async def test_combined_property_is_switched_and_streams_are_unsubscribed(market: SimulatorServer) -> None:
    async with connect_socket(market, "/binance/ws/btcusdt@bookTicker") as stream:
        await stream.read_until(lambda frame: "b" in frame)
        await stream.request(method="SET_PROPERTY", params=["combined", True], id=1)
        await stream.read_until(lambda frame: frame.get("stream") == "btcusdt@bookTicker" and "b" in frame["data"])
        await stream.request(method="UNSUBSCRIBE", params=["btcusdt@bookTicker"], id=2)
        assert (await stream.request(method="LIST_SUBSCRIPTIONS", id=3))["result"] == []
        too_many = [f"btcusdt@kline_1m{number}" for number in range(3)]
        assert (await stream.request(method="SUBSCRIBE", params=too_many, id=4))["error"]["code"] == 2


async def test_connection_with_too_many_messages_a_second_is_closed(market: SimulatorServer) -> None:
    async with connect_socket(market, "/binance/ws") as stream:
        await stream.connection.send("{")
        await stream.read_until(lambda frame: frame["error"]["code"] == 3)
        with contextlib.suppress(websockets.ConnectionClosed):
            for number in range(100):
                await stream.send(method="LIST_SUBSCRIPTIONS", id=number)
        assert await stream.close_frame() == (1008, "Too many requests")


async def test_times_are_in_microseconds_on_request(market: SimulatorServer) -> None:
    async with connect_socket(market, "/binance/ws/btcusdt@aggTrade?timeUnit=MICROSECOND") as stream:
        trade = await stream.read_until(lambda frame: "a" in frame)
    assert trade["T"] // 1000 == (await get(market, "aggTrades", symbol="BTCUSDT", fromId=trade["a"], limit=1))[0]["T"]


async def test_symbol_that_does_not_trade_has_a_status_and_no_quote(market: SimulatorServer) -> None:
    info = await get(market, "exchangeInfo")
    status = {row["symbol"]: row["status"] for row in info["symbols"]}
    assert (status["BTCUSDT"], status["USDCUSDT"], status["BTCRUB"]) == ("TRADING", "TRADING", "BREAK")
    prices = {row["symbol"]: row["price"] for row in await get(market, "ticker/price")}
    assert prices.keys() == status.keys()
    assert prices["USDTRUB"] == "91.10000000"
    [dead] = await get(market, "ticker/bookTicker", symbols='["BTCRUB"]')
    assert (dead["bidPrice"], dead["askPrice"]) == ("0.00000000", "0.00000000")
    trading = await get(market, "ticker/price", symbolStatus="TRADING")
    assert {row["symbol"] for row in trading} == {name for name, state in status.items() if state == "TRADING"}
    for row in info["symbols"]:
        filters = {each["filterType"]: each for each in row["filters"]}
        if row["status"] == "TRADING":
            assert Decimal(prices[row["symbol"]]) % Decimal(filters["PRICE_FILTER"]["tickSize"]) == 0


async def test_klines_are_selected_as_documented(market: SimulatorServer) -> None:
    minute, now = 60_000, (await get(market, "time"))["serverTime"]
    query = {"symbol": "BTCUSDT", "interval": "1m"}
    newest = await get(market, "klines", **query, limit=3)
    assert newest[-1][0] <= now <= newest[-1][6] + 5000
    start = MONDAY_MS + 1
    rows = await get(market, "klines", **query, startTime=start, limit=2)
    assert [row[0] for row in rows] == [MONDAY_MS + minute, MONDAY_MS + 2 * minute]
    edge = {"startTime": MONDAY_MS, "endTime": MONDAY_MS}
    assert [row[0] for row in await get(market, "klines", **query, **edge)] == [MONDAY_MS]
    micro = {"startTime": MONDAY_MS * 1000, "endTime": (MONDAY_MS + minute) * 1000}
    assert len(await get(market, "klines", **query, **micro)) == 2
    assert len(await get(market, "klines", **query, limit=5000)) == 1000
    first = await get(market, "klines", symbol="BTCUSDT", interval="1d", startTime=0, limit=2)
    assert [row[0] for row in first] == [1_502_928_000_000, 1_503_014_400_000]


async def test_day_ticker_agrees_with_trades_and_order_book(market: SimulatorServer) -> None:
    day = await get(market, "ticker/24hr", symbol="ETHUSDT")
    assert Decimal(day["lastPrice"]) - Decimal(day["openPrice"]) == Decimal(day["priceChange"])
    assert day["count"] == day["lastId"] - day["firstId"] + 1
    mini = await get(market, "ticker/24hr", symbols='["ETHUSDT","BTCRUB"]', type="MINI")
    assert [row["symbol"] for row in mini] == ["ETHUSDT", "BTCRUB"]
    assert "bidPrice" not in mini[0]
    book = await get(market, "depth", symbol="ETHUSDT", limit=5)
    assert [len(book["bids"]), len(book["asks"])] == [5, 5]
    assert (await get(market, "trades", symbol="ETHUSDT", limit=7))[-1]["id"] >= day["lastId"]
    assert Decimal((await get(market, "avgPrice", symbol="ETHUSDT"))["price"]) > 0


@pytest.mark.parametrize("window", ["1m", "90m", "59m", "4h", "7d", None])
async def test_window_ticker_equals_its_trades(market: SimulatorServer, window: str | None) -> None:
    query = {"symbol": "ETHUSDT"} | ({"windowSize": window} if window else {})
    answer = await get(market, "ticker", **query)
    if window == "90m":
        assert answer["code"] == -1130
        return
    length = int((window or "1d")[:-1]) * {"m": 60_000, "h": 3_600_000, "d": 86_400_000}[(window or "1d")[-1]]
    assert answer["openTime"] == (answer["closeTime"] - length) // 60_000 * 60_000
    await compare_span(market, answer)
    mini = await get(market, "ticker", **query, type="MINI")
    assert mini.keys() == answer.keys() - {"priceChange", "priceChangePercent", "weightedAvgPrice"}


@pytest.mark.parametrize(("zone", "shift"), [("0", 0), ("-5:30", -19_800_000), ("8", 28_800_000)])
async def test_trading_day_ticker_begins_at_midnight_of_its_time_zone(
    market: SimulatorServer, zone: str, shift: int
) -> None:
    answer = await get(market, "ticker/tradingDay", symbol="ETHUSDT", timeZone=zone)
    now = (await get(market, "time"))["serverTime"]
    assert answer["openTime"] == (now + shift) // 86_400_000 * 86_400_000 - shift
    assert answer["closeTime"] == answer["openTime"] + 86_399_999
    await compare_span(market, answer)
    several = await get(market, "ticker/tradingDay", symbols='["BTCRUB","ETHUSDT"]')
    assert [row["count"] for row in several][:1] == [0]
    assert several[0].keys() == several[1].keys() == answer.keys()


async def compare_span(market: SimulatorServer, span: Any) -> None:
    """Compare a window's first and last fill with REST, and its sums with the minutes in it."""
    [first] = await get(market, "historicalTrades", symbol="ETHUSDT", fromId=span["firstId"], limit=1)
    before = (await get(market, "historicalTrades", symbol="ETHUSDT", fromId=span["firstId"] - 1, limit=2))[0]
    [last] = await get(market, "historicalTrades", symbol="ETHUSDT", fromId=span["lastId"], limit=1)
    assert (first["id"], last["id"]) == (span["firstId"], span["lastId"])
    assert before["time"] < span["openTime"] <= first["time"] <= last["time"] <= span["closeTime"]
    assert (first["price"], last["price"]) == (span["openPrice"], span["lastPrice"])
    assert span["count"] == span["lastId"] - span["firstId"] + 1
    minutes = await get(
        market,
        "klines",
        symbol="ETHUSDT",
        interval="1m",
        startTime=span["openTime"],
        endTime=span["closeTime"],
        limit=1000,
    )
    if len(minutes) < 1000:
        complete = [row for row in minutes if row[6] < last["time"]]
        assert Decimal(span["volume"]) >= sum(Decimal(row[5]) for row in complete)
        assert Decimal(span["highPrice"]) >= max([Decimal(row[2]) for row in complete], default=Decimal(0))


async def test_historical_trades_begin_at_any_id(market: SimulatorServer) -> None:
    newest = await get(market, "trades", symbol="BTCUSDT", limit=20)
    again = await get(market, "historicalTrades", symbol="BTCUSDT", fromId=newest[3]["id"], limit=5)
    assert again == newest[3:8]
    oldest = await get(market, "historicalTrades", symbol="BTCUSDT", fromId=0, limit=3)
    assert [row["id"] for row in oldest] == [1, 2, 3]
    assert is_gapless([row["id"] for row in await get(market, "historicalTrades", symbol="BTCUSDT", limit=1000)])
    assert await get(market, "historicalTrades", symbol="BTCUSDT", fromId=newest[-1]["id"] + 10**6) == []


REFUSED_QUERIES = [
    ("klines?symbol=NOPE&interval=1m", 400, -1121),
    ("klines?symbol=btcusdt&interval=1m", 400, -1100),
    ("klines?symbol=BTCUSDT&interval=7m", 400, -1120),
    ("klines?symbol=BTCUSDT", 400, -1102),
    ("klines?interval=1m", 400, -1102),
    ("klines?symbol=BTCUSDT&interval=1m&startTime=abc", 400, -1100),
    ("klines?symbol=BTCUSDT&interval=1m&timeZone=99", 400, -1130),
    ("klines?symbol=BTCUSDT&interval=1m&limit=0", 400, -1130),
    ("ticker/price?symbol=BTCUSDT&symbols=%5B%22BTCUSDT%22%5D", 400, -1128),
    ("ticker/price?symbols=%5B%22BTCUSDT%22,%22BTCUSDT%22%5D", 400, -1151),
    ("ticker/price?symbol=BTCRUB&symbolStatus=TRADING", 400, -1220),
    ("ticker/price?symbolStatus=ASLEEP", 400, -1122),
    ("ticker?windowSize=1d", 400, -1102),
    ("ticker/tradingDay?symbol=BTCUSDT&type=TINY", 400, -1130),
    ("historicalTrades?symbol=BTCUSDT&fromId=x", 400, -1100),
]


@pytest.mark.parametrize("number", [99_999_999_999_999_999_999, 2**63 - 1, 10**13])
async def test_trades_from_an_id_in_the_future_are_empty(market: SimulatorServer, number: int) -> None:
    for name in ("aggTrades", "historicalTrades"):
        assert await get(market, name, symbol="BTCUSDT", fromId=number) == []


@pytest.mark.parametrize(("path", "status", "code"), REFUSED_QUERIES)
async def test_wrong_query_gets_binances_error_code(market: SimulatorServer, path: str, status: int, code: int) -> None:
    answer = await market.client.get(f"{API}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


UNKNOWN_PATHS = [
    ("GET", "/api/v3/nonsense", 404, None),
    ("GET", "/api/v1/time", 404, None),
    ("GET", "/fapi/v1/time", 404, None),
    ("POST", "/api/v3/nonsense", 404, None),
    ("POST", "/api/v3/userDataStream", 410, None),
    ("POST", "/api/v3/time", 405, -1000),
    ("DELETE", "/api/v3/klines?symbol=BTCUSDT", 405, -1000),
    ("PUT", "/api/v3/order", 405, -1000),
    ("GET", "/api/v3/account", 401, -2014),
    ("POST", "/api/v3/order", 401, -2014),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), UNKNOWN_PATHS)
async def test_unknown_path_or_method_is_refused_as_by_binance(
    market: SimulatorServer, method: str, path: str, status: int, code: int | None
) -> None:
    answer = await market.client.request(method, f"/binance{path}")
    assert answer.status_code == status
    if code is None:
        assert answer.headers["content-type"].startswith("text/html")
    else:
        assert answer.json().keys() == {"code", "msg"}
        assert answer.json()["code"] == code
    allowed = {"/api/v3/order": "GET, POST, DELETE"}.get(path, "GET, HEAD")
    assert answer.headers.get("allow") == (allowed if status == 405 else None)


async def test_account_is_refused_with_any_key_and_head_has_no_body(market: SimulatorServer) -> None:
    answer = await market.client.get(f"{API}/account", headers={"x-mbx-apikey": "x" * 64})
    assert (answer.status_code, answer.json()["code"]) == (401, -2015)
    head = await market.client.head(f"{API}/time")
    assert (head.status_code, head.content) == (200, b"")


async def test_websocket_at_an_unknown_path_is_refused(market: SimulatorServer) -> None:
    with pytest.raises(websockets.InvalidStatus, match="404"):
        async with connect_socket(market, "/binance/stream/nonsense"):
            pass


async def test_request_weight_is_counted_and_excess_is_refused_then_banned() -> None:
    async with run_fast_simulator(speed=SLOW_CLOCK_SPEED) as market:
        first = await market.client.get(f"{API}/exchangeInfo")
        second = await market.client.get(f"{API}/ticker/24hr")
        assert [answer.headers["x-mbx-used-weight-1m"] for answer in (first, second)] == ["20", "100"]
        for _ in range(73):
            await market.client.get(f"{API}/ticker/24hr")
        answers = [await market.client.get(f"{API}/ticker/24hr") for _ in range(25)]
    assert [answer.status_code for answer in answers] == [*[429] * 20, *[418] * 5]
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert answers[0].json()["code"] == answers[-1].json()["code"] == -1003


async def test_connection_ends_after_a_day_and_attempts_are_limited() -> None:
    async with run_fast_simulator(speed=30_000) as market, connect_socket(market, "/binance/ws") as stream:
        assert await stream.close_frame() == (1001, "")
    async with run_fast_simulator() as market:
        for _ in range(300):
            async with connect_socket(market, "/binance/ws"):
                pass
        with pytest.raises(websockets.InvalidStatus, match="429"):
            async with connect_socket(market, "/binance/ws"):
                pass
