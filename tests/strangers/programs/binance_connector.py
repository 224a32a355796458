import json
import os
from queue import Queue

SIMULATOR = os.environ["SIMULATOR"]
frames: Queue[str] = Queue()

# page
from binance.spot import Spot
from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient

client = Spot(base_url=f"{SIMULATOR}/binance")
sockets = SpotWebsocketStreamClient(
    stream_url=f"{SIMULATOR.replace('http', 'ws', 1)}/binance", on_message=lambda _, text: frames.put(text)
)
# end

bars = client.klines("BTCUSDT", "1h", limit=50)
trades = client.agg_trades("BTCUSDT", limit=50)
quote = client.book_ticker("BTCUSDT")
book = client.depth("BTCUSDT", limit=5)
day = client.ticker_24hr("BTCUSDT")
window = client.rolling_window_ticker("BTCUSDT")
trading_day = client.trading_day_ticker(symbol="BTCUSDT")
sockets.agg_trade(symbol="btcusdt")
live: list[int] = []
answered = False
while len(live) < 10 or not answered:
    frame = json.loads(frames.get(timeout=30))
    answered = answered or "result" in frame
    live += [frame["a"]] if frame.get("e") == "aggTrade" else []
sockets.stop()
found = {
    "bars": [[bar[0], *map(float, bar[1:5])] for bar in bars],
    "trades": [trade["a"] for trade in trades],
    "live": live,
    "quote": [float(quote["bidPrice"]), float(quote["askPrice"])],
    "book": [float(book["bids"][0][0]), float(book["asks"][0][0])],
    "tickers": [each["symbol"] for each in (day, window, trading_day)],
}
print(json.dumps(found))
