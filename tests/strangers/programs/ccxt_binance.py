import asyncio
import json
import os

SIMULATOR = os.environ["SIMULATOR"]


async def main() -> None:
    # page
    import ccxt.pro

    exchange = ccxt.pro.binance({"options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}})
    exchange.urls["api"]["public"] = f"{SIMULATOR}/binance/api/v3"
    exchange.urls["api"]["ws"]["spot"] = f"{SIMULATOR.replace('http', 'ws', 1)}/binance/ws"
    # end
    try:
        bars = await exchange.fetch_ohlcv("BTC/USDT", "1h", limit=50)
        trades = await exchange.fetch_trades("BTC/USDT", limit=50)
        ticker = await exchange.fetch_ticker("BTC/USDT")
        tickers = await exchange.fetch_tickers(["BTC/USDT", "ETH/USDT"])
        book = await exchange.fetch_order_book("BTC/USDT", 5)
        live = [int(trade["id"]) for _ in range(3) for trade in await exchange.watch_trades("BTC/USDT")]
        found = {
            "bars": [bar[:5] for bar in bars],
            "trades": [int(trade["id"]) for trade in trades],
            "live": sorted(set(live)),
            "quote": [ticker["bid"], ticker["ask"]],
            "book": [book["bids"][0][0], book["asks"][0][0]],
            "markets": len(exchange.markets),
            "tickers": sorted(tickers),
        }
        print(json.dumps(found))
    finally:
        await exchange.close()


asyncio.run(main())
