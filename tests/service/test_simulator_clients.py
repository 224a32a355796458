"""Client libraries of other projects, unchanged, with the simulator in place of the exchanges."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from tests.servers import free_port
from tests.simulator import SimulatorServer, is_gapless, run_fast_simulator
from tests.system import kurs_process
from tests.waiting import eventually


@pytest_asyncio.fixture(scope="module")
async def market() -> AsyncIterator[SimulatorServer]:
    async with run_fast_simulator(int(time.time() * 1000)) as market:
        yield market


@asynccontextmanager
async def ccxt_client(name: str, **options: Any) -> AsyncIterator[Any]:
    client = getattr(import_module("ccxt.async_support"), name)({"options": options})
    try:
        yield client
    finally:
        await client.close()


async def make_common_requests(client: Any, symbol: str) -> None:
    """Make the requests that most users make."""
    bars = await client.fetch_ohlcv(symbol, "1h", limit=50)
    assert len(bars) >= 49
    assert all(low <= min(opened, close) <= max(opened, close) <= high for _, opened, high, low, close, _ in bars)
    ticker = await client.fetch_ticker(symbol)
    assert ticker["bid"] < ticker["ask"]
    assert ticker["last"] == pytest.approx(bars[-1][4], rel=0.01)
    trades = await client.fetch_trades(symbol, limit=10)
    assert is_gapless(sorted(int(trade["id"].rpartition("-")[2]) for trade in trades))
    book = await client.fetch_order_book(symbol, 5)
    assert book["bids"][0][0] < book["asks"][0][0]


async def test_ccxt_works_with_the_simulated_binance(market: SimulatorServer) -> None:
    async with ccxt_client("binance", fetchMarkets={"types": ["spot"]}, fetchCurrencies=False) as client:
        client.urls["api"]["public"] = f"{market.root}/binance/api/v3"
        await make_common_requests(client, "BTC/USDT")
        assert client.markets["BTC/USDT"]["active"]
        assert not client.markets["BTC/RUB"]["active"]
        window = await client.public_get_ticker({"symbol": "BTCUSDT", "windowSize": "2h"})
        assert int(window["closeTime"]) - int(window["openTime"]) < 7_260_000


async def test_ccxt_works_with_the_simulated_deribit(market: SimulatorServer) -> None:
    async with ccxt_client("deribit") as client:
        client.urls["api"]["rest"] = f"{market.root}/deribit"
        await make_common_requests(client, "BTC/USD:BTC")
        await make_common_requests(client, "ETH/USDC")
        assert (await client.fetch_status())["status"] == "ok"
        tickers = await client.fetch_tickers(["BTC/USD:BTC"])
        assert tickers["BTC/USD:BTC"]["bid"] < tickers["BTC/USD:BTC"]["ask"]
        assert (await client.fetch_open_interest("BTC/USD:BTC"))["openInterestValue"]


@pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")  # it imports deprecated names of websockets
async def test_python_binance_works_with_the_simulated_binance(market: SimulatorServer) -> None:
    binance = import_module("binance")
    client = binance.AsyncClient("x" * 64, "y" * 64)  # an unknown key
    client.API_URL = f"{market.root}/binance/api"
    try:
        bars = await client.get_klines(symbol="BTCUSDT", interval="1d", limit=3)
        assert [later[0] - earlier[0] for earlier, later in pairwise(bars)] == [86_400_000] * 2
        assert float((await client.get_symbol_ticker(symbol="BTCUSDT"))["price"]) == pytest.approx(
            float(bars[-1][4]), 0.01
        )
        assert (await client.get_orderbook_ticker(symbol="BTCUSDT"))["symbol"] == "BTCUSDT"
        newest = await client.get_recent_trades(symbol="BTCUSDT", limit=5)
        assert await client.get_historical_trades(symbol="BTCUSDT", fromId=newest[0]["id"], limit=5) == newest
        with pytest.raises(binance.exceptions.BinanceAPIException) as refused:
            await client.get_account()
        assert refused.value.code == -2015
        sockets = binance.BinanceSocketManager(client)
        sockets.STREAM_URL = f"{market.root.replace('http', 'ws', 1)}/binance/"
        async with sockets.multiplex_socket(["btcusdt@aggTrade", "btcusdt@bookTicker"]) as stream:
            frames = [await asyncio.wait_for(stream.recv(), 60) for _ in range(10)]
        assert {frame["stream"] for frame in frames} <= {"btcusdt@aggTrade", "btcusdt@bookTicker"}
        async with sockets.kline_socket("BTCUSDT", "1s") as stream:
            assert (await asyncio.wait_for(stream.recv(), 60))["k"]["i"] == "1s"
        async with binance.DepthCacheManager(client, "BTCUSDT", bm=sockets, ws_interval=100) as cache:
            books = [await asyncio.wait_for(cache.recv(), 60) for _ in range(5)]
        assert all(book.get_bids()[0][0] < book.get_asks()[0][0] for book in books)
    finally:
        await client.close_connection()


async def run_feed(feed: Any, enough: Callable[[], object]) -> None:
    """Run a cryptofeed feed until `enough` holds."""
    handler = import_module("cryptofeed").FeedHandler({"log": {"disabled": True}, "uvloop": False})
    handler.add_feed(feed)
    handler.run(start_loop=False, install_signal_handlers=False)
    await eventually(enough)
    await handler.stop_async(loop=asyncio.get_running_loop())


TlsSimulator = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsSimulator]:
    """A simulator with TLS, which cryptofeed needs: its URLs, and options that trust its certificate."""
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    process = kurs_process(folder, "simulator", KURS_SIMULATOR_TLS_PORT=str(port), KURS_DATA_DIR=str(folder))
    try:
        process.start()
        trust = ssl.create_default_context(cafile=folder / "simulator-cert.pem")
        yield f"{process.url}/simulator", f"wss://127.0.0.1:{port}/simulator", {"ssl": trust}
    finally:
        process.stop()


async def test_cryptofeed_works_with_the_simulated_binance(
    stream: TlsSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, at = import_module("cryptofeed.exchanges").Binance, import_module("cryptofeed.connection")
    routes = at.Routes("/api/v3/exchangeInfo", l2book="/api/v3/depth?symbol={}&limit={}")
    monkeypatch.setattr(client, "rest_endpoints", [at.RestEndpoint(f"{stream[0]}/binance", routes=routes)])
    endpoint = at.WebsocketEndpoint(f"{stream[1]}/binance", options=stream[2])
    monkeypatch.setattr(client, "websocket_endpoints", [endpoint])
    trades: list[Any] = []
    quotes: list[Any] = []
    books: list[Any] = []
    await asyncio.to_thread(client.symbol_mapping, refresh=True)  # it blocks
    callbacks = {"trades": append_to(trades), "ticker": append_to(quotes), "l2_book": append_to(books)}
    feed = client(symbols=["BTC-USDT", "ETH-USDT"], channels=["trades", "ticker", "l2_book"], callbacks=callbacks)
    await run_feed(feed, lambda: len(trades) > 5 and len(quotes) > 5 and len(books) > 5)
    assert all(book.book.bids.index(0)[0] < book.book.asks.index(0)[0] for book in books)
    assert is_gapless([int(trade.id) for trade in trades if trade.symbol == "BTC-USDT"])
    assert all(quote.bid < quote.ask for quote in quotes)


async def test_cryptofeed_works_with_the_simulated_deribit(
    stream: TlsSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, at = import_module("cryptofeed.exchanges").Deribit, import_module("cryptofeed.connection")
    routes = at.Routes([f"/api/v2/public/get_instruments?currency={currency}" for currency in ("BTC", "ETH", "USDC")])
    monkeypatch.setattr(client, "rest_endpoints", [at.RestEndpoint(f"{stream[0]}/deribit", routes=routes)])
    endpoint = at.WebsocketEndpoint(f"{stream[1]}/deribit/ws/api/v2", options=stream[2])
    monkeypatch.setattr(client, "websocket_endpoints", [endpoint])
    trades: list[Any] = []
    quotes: list[Any] = []
    books: list[Any] = []
    await asyncio.to_thread(client.symbol_mapping, refresh=True)
    feed = client(
        symbols=["BTC-USD-PERP"],
        channels=["trades", "l1_book", "l2_book"],
        callbacks={"trades": append_to(trades), "l1_book": append_to(quotes), "l2_book": append_to(books)},
        config={"deribit": {"key_id": "any", "key_secret": "any"}},
    )
    await run_feed(feed, lambda: trades and quotes and len(books) > 5)
    assert trades[0].symbol == quotes[0].symbol == "BTC-USD-PERP"


def append_to(found: list[Any]) -> Callable[..., Any]:
    async def callback(event: Any, _received: float) -> None:
        found.append(event)

    return callback
