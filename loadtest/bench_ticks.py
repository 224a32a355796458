"""Trades a second, from the socket to the commit, of Kurs and of cryptofeed: `make bench ONLY=ticks`.

Both receive the same trades over TLS, as fast as they read. Kurs: a collector and a writer over RabbitMQ with confirms,
until the last trade is in a candle that PostgreSQL has committed. cryptofeed: its backend for PostgreSQL in one
process, until the row of the last trade is committed.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from statistics import median
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import msgspec
from sqlalchemy.engine import make_url

from loadtest import results
from loadtest.results import FigureBench, Target
from services.adapters import sql
from services.core.markets import SIMULATED
from services.core.model import Instrument, Series
from tests import servers
from tests.system import kurs_process
from tests.tls import PEM, tls_proxy

TRADES, ROUNDS = 200_000, 3
TRADES_PER_CHUNK = 500  # frames in one write
DEADLINE_SECONDS = 180  # of one round
SPAN_MS = 50_000  # of all trades: a collector rejects a time that is a minute ahead of the exchange's clock
START_OFFSET_MS = 600_000  # the age of the first trade, about
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455
LISTED = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}
FILTERS = [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}, {"filterType": "LOT_SIZE", "stepSize": "0.00001"}]
TABLE = """
CREATE TABLE trades (
    id serial PRIMARY KEY, timestamp timestamp, receipt_timestamp timestamp, exchange varchar(32), symbol varchar(32),
    side varchar(8), amount numeric(32, 16), price numeric(32, 16), trade_id varchar(64), order_type varchar(32)
)
"""  # from cryptofeed's documentation


class TradeServer:
    """A Binance that sends trades and nothing more."""

    def __init__(self) -> None:
        self.began = 0.0
        self._chunks = list(_chunks())

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        """Serve on a free port, and yield it."""
        server = await asyncio.start_server(self._serve_connection, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                named = {
                    name.lower(): value.strip() for name, _, value in (header.partition(":") for header in headers)
                }
                if key := named.get("sec-websocket-key"):
                    await self._send_trades(writer, key)
                    await reader.read()
                    return
                _respond(writer, line.split()[1])
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    async def _send_trades(self, writer: asyncio.StreamWriter, key: str) -> None:
        accept = base64.b64encode(hashlib.sha1(f"{key}{WEBSOCKET_GUID}".encode()).digest()).decode()  # noqa: S324  the protocol's
        head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        writer.write(f"{head}sec-websocket-accept: {accept}\r\n\r\n".encode())
        self.began = time.perf_counter()
        for chunk in self._chunks:
            writer.write(chunk)
            await writer.drain()


def _respond(writer: asyncio.StreamWriter, path: str) -> None:
    listing: Any = {"symbols": [{**LISTED, "filters": FILTERS}]} if "exchangeInfo" in path else []
    body = json.dumps(listing).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


def _chunks() -> Iterator[bytes]:
    """Yield all trades as frames.

    The first trade is of the minute before, so that the minute of the others counts as complete. Its id is 0, because a
    collector requests older trades when the first id is higher.
    """
    begin = (int(time.time() * 1000) - START_OFFSET_MS) // 60_000 * 60_000
    for first in range(0, TRADES, TRADES_PER_CHUNK):
        yield b"".join(_frame(number, begin) for number in range(first, first + TRADES_PER_CHUNK))


def _frame(number: int, begin: int) -> bytes:
    at = begin + number * SPAN_MS // TRADES if number else begin - 1
    price, size = f"{97_000 + number % 997 / 100:.8f}", f"{(number % 89 + 1) / 10_000:.8f}"
    data = {"e": "aggTrade", "E": at, "s": "BTCUSDT", "a": number, "p": price, "q": size, "f": number, "l": number}
    text = json.dumps(
        {"stream": "btcusdt@aggTrade", "data": {**data, "T": at, "m": number % 2 == 0, "M": True}}
    ).encode()
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text


async def kurs_round(private: servers.PrivateServers, trade_server: TradeServer, url: str) -> float:
    """Return the seconds from the first trade on the socket to the commit of the last."""
    database = private.postgres.create_database()
    env = {"DATABASE_URL": database, "REDIS_URL": private.redis.url, "RABBITMQ_URL": private.rabbit.url}
    env |= {
        "KURS_SIMULATOR_URL": f"{url}/simulator",
        "SSL_CERT_FILE": str(private.folder / PEM),
        "KURS_HISTORY_BARS": "0",
    }
    env |= {"KURS_DIRECTIONS": "BTC-USDT", "KURS_SYMBOLS": "BTC-USDT", "KURS_EXCHANGES": "binance"}
    await asyncio.to_thread(kurs_process(private.folder, "migrate", **env).run)
    running = [kurs_process(private.folder, *words, **env) for words in (("writer",), ("collector", "binance"))]
    try:
        for process in running:
            await asyncio.to_thread(process.start)
        store = await sql.connect(sql.market_url(database, SIMULATED))
        try:
            await _until(lambda: _last_trade_saved(store), "Kurs: the last trade is not in a candle")
            seconds = time.perf_counter() - trade_server.began
            await _check_complete(store)
        finally:
            await store.close()
        return seconds
    finally:
        for process in reversed(running):
            await asyncio.to_thread(process.stop)


async def _last_trade_saved(store: sql.SqlStore) -> bool:
    return any(cursor.trade_id == TRADES - 1 for cursor in await store.cursors())


async def _check_complete(store: sql.SqlStore) -> None:
    """Check that all trades arrived, because lost trades would improve the figure. Raises RuntimeError."""
    minutes = await store.candles(Series("binance", Instrument("BTC", "USDT"), "1m"), 0, int(time.time() * 1000))
    if (count := sum(minute.bar.trades for minute in minutes)) != TRADES - 1:
        raise RuntimeError(f"{count} of {TRADES - 1} trades are in the candles")


async def cryptofeed_round(private: servers.PrivateServers, trade_server: TradeServer, urls: tuple[str, str]) -> float:
    """Return the same figure of cryptofeed."""
    database = private.postgres.create_database().replace("+asyncpg", "")
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)
    words = [sys.executable, "-m", "loadtest.bench_ticks", "cryptofeed", *urls, database, str(private.folder / PEM)]
    process = await asyncio.create_subprocess_exec(*words)
    try:
        await _until(lambda: _last_row_saved(connection), "cryptofeed: the last trade has no row")
        return time.perf_counter() - trade_server.began
    finally:
        process.kill()
        await process.wait()
        await connection.close()


async def _last_row_saved(connection: Any) -> bool:
    return bool((await connection.fetchval("SELECT coalesce(max(id), 0) FROM trades")) >= TRADES)


async def _until(condition: Callable[[], Awaitable[bool]], failure: str) -> None:
    """Wait until a condition holds. Raises RuntimeError."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await condition():  # noqa: ASYNC110  another process makes it true
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"{failure} after {DEADLINE_SECONDS} s") from None


def cryptofeed(url: str, plain: str, database: str, certificate: str) -> int:
    """Run cryptofeed until it is killed.

    It requests the listing over plain HTTP, because it does so before a trusted certificate can be set.
    """
    client, at = import_module("cryptofeed.exchanges").Binance, import_module("cryptofeed.connection")
    routes, context = at.Routes("/api/v3/exchangeInfo"), ssl.create_default_context(cafile=certificate)
    client.rest_endpoints = [at.RestEndpoint(f"{plain}/simulator/binance", routes=routes)]
    socket = f"{url.replace('https', 'wss')}/simulator/binance"
    client.websocket_endpoints = [at.WebsocketEndpoint(socket, options={"ssl": context})]
    database_url = make_url(database)
    backend = import_module("cryptofeed.backends.postgres").TradePostgres
    callback = backend(
        host=database_url.host, port=database_url.port, user=database_url.username, db=database_url.database
    )
    handler = import_module("cryptofeed").FeedHandler({"log": {"disabled": True}})
    handler.add_feed(client(symbols=["BTC-USDT"], channels=["trades"], callbacks={"trades": callback}))
    handler.run()
    return 0


async def measure(private: servers.PrivateServers) -> dict[str, float]:
    """Return the trades a second of both, measured in turn; medians."""
    trade_server, seconds = TradeServer(), dict[str, list[float]](Kurs=[], cryptofeed=[])
    async with trade_server.serve() as plain, tls_proxy(plain, private.folder) as (port, _):
        url = f"https://127.0.0.1:{port}"
        for _ in range(ROUNDS):
            seconds["Kurs"].append(await kurs_round(private, trade_server, url))
            seconds["cryptofeed"].append(
                await cryptofeed_round(private, trade_server, (url, f"http://127.0.0.1:{plain}"))
            )
    return {name: TRADES / median(some) for name, some in seconds.items()}


def main() -> int:
    """Run the benchmark. Return 1 when the target is missed."""
    try:
        with servers.private_servers() as private:
            rates = asyncio.run(measure(private))
    except servers.NotInstalled as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    for name, rate in rates.items():
        print(f"{name:12} {rate:10,.0f} trades/s")
    target = Target("trades a second, of cryptofeed's", round(rates["Kurs"] / rates["cryptofeed"], 2), at_least=1.5)
    aim = msgspec.structs.replace(target, at_least=5)
    print(target, f"aim: {aim}", sep="\n")
    return results.save_and_exit_code("ticks", FigureBench(results.machine_info(), rates, [target], [aim]))


if __name__ == "__main__":
    sys.exit(cryptofeed(*sys.argv[2:]) if sys.argv[1:2] == ["cryptofeed"] else main())
