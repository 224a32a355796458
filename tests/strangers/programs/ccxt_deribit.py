import asyncio
import json
import os

SIMULATOR = os.environ["SIMULATOR"]


async def main() -> None:
    # page
    import ccxt.pro

    exchange = ccxt.pro.deribit()
    exchange.urls["api"]["rest"] = f"{SIMULATOR}/deribit"
    exchange.urls["api"]["ws"] = f"{SIMULATOR.replace('http', 'ws', 1)}/deribit/ws/api/v2"
    # end
    try:
        bars = await exchange.fetch_ohlcv("BTC/USD:BTC", "1h", limit=50)
        trades = await exchange.fetch_trades("BTC/USD:BTC", limit=50)
        ticker = await exchange.fetch_ticker("BTC/USD:BTC")
        book = await exchange.fetch_order_book("BTC/USD:BTC", 5)
        live = [
            int(trade["id"].rpartition("-")[2])
            for _ in range(3)
            for trade in await exchange.watch_trades("BTC/USD:BTC")
        ]
        found = {
            "bars": [bar[:5] for bar in bars],
            "trades": [int(trade["id"].rpartition("-")[2]) for trade in trades],
            "live": sorted(set(live)),
            "quote": [ticker["bid"], ticker["ask"]],
            "book": [book["bids"][0][0], book["asks"][0][0]],
            "markets": len(exchange.markets),
        }
        print(json.dumps(found))
    finally:
        await exchange.close()


asyncio.run(main())
