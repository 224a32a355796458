import asyncio
import json
import os

SIMULATOR = os.environ["SIMULATOR"]


async def main() -> None:
    # page
    from binance import AsyncClient, BinanceSocketManager

    client = AsyncClient()  # inside a coroutine: it belongs to the running loop
    client.API_URL = f"{SIMULATOR}/binance/api"
    sockets = BinanceSocketManager(client)
    sockets.STREAM_URL = f"{SIMULATOR.replace('http', 'ws', 1)}/binance/"
    # end
    try:
        bars = await client.get_klines(symbol="BTCUSDT", interval="1h", limit=50)
        trades = await client.get_aggregate_trades(symbol="BTCUSDT", limit=50)
        quote = await client.get_orderbook_ticker(symbol="BTCUSDT")
        book = await client.get_order_book(symbol="BTCUSDT", limit=5)
        day = await client.get_ticker(symbol="BTCUSDT")
        async with sockets.multiplex_socket(["btcusdt@aggTrade", "ethusdt@bookTicker"]) as stream:
            frames = [await stream.recv() for _ in range(20)]
        found = {
            "bars": [[bar[0], *map(float, bar[1:5])] for bar in bars],
            "trades": [trade["a"] for trade in trades],
            "live": [frame["data"]["a"] for frame in frames if frame["stream"] == "btcusdt@aggTrade"],
            "quote": [float(quote["bidPrice"]), float(quote["askPrice"])],
            "book": [float(book["bids"][0][0]), float(book["asks"][0][0])],
            "tickers": [day["symbol"]],
        }
        print(json.dumps(found))
    finally:
        await client.close_connection()


asyncio.run(main())
