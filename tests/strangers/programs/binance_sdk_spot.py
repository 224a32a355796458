import asyncio
import json
import os

SIMULATOR = os.environ["SIMULATOR"]


async def main() -> None:
    # page
    from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketStreams
    from binance_sdk_spot.spot import Spot

    sockets = f"{SIMULATOR.replace('http', 'ws', 1)}/binance/stream"
    client = Spot(
        config_rest_api=ConfigurationRestAPI(api_key="any", api_secret="any", base_path=f"{SIMULATOR}/binance"),
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=sockets),
    )
    # end
    bars = client.rest_api.klines(symbol="BTCUSDT", interval="1h", limit=50).data()
    trades = client.rest_api.agg_trades(symbol="BTCUSDT", limit=50).data()
    book = client.rest_api.depth(symbol="BTCUSDT", limit=5).data()
    quote = client.rest_api.ticker_book_ticker(symbol="BTCUSDT").data().actual_instance
    day = client.rest_api.ticker24hr(symbol="BTCUSDT").data().actual_instance
    connection = await client.websocket_streams.create_connection()
    live: list[int] = []
    enough = asyncio.Event()

    def seen(trade: object) -> None:
        live.append(trade.a)  # type: ignore[attr-defined]
        if len(live) >= 10:
            enough.set()

    try:
        stream = await connection.agg_trade(symbol="btcusdt")
        stream.on("message", seen)
        await asyncio.wait_for(enough.wait(), 30)
        await stream.unsubscribe()
    finally:
        await connection.close_connection(close_session=True)
    found = {
        "bars": [[bar[0], *map(float, bar[1:5])] for bar in bars],
        "trades": [trade.a for trade in trades],
        "live": live,
        "quote": [float(quote.bid_price), float(quote.ask_price)],
        "book": [float(book.bids[0][0]), float(book.asks[0][0])],
        "tickers": [day.symbol],
    }
    print(json.dumps(found))


asyncio.run(main())
