import os
import sys

KURS = os.environ["KURS"]
left = int(os.environ["EVENTS"])


def seen(message: dict[str, object]) -> None:
    global left
    if left:
        print(json.dumps(message))
        left -= 1
    if not left:
        app.close()


# page
import json

import websocket

CHANNELS = ("btc_usd", "candles:BTCUSDT:1m")
last: dict[str, int] = {}


def on_open(app: websocket.WebSocketApp) -> None:
    for channel in CHANNELS:
        how = {"action": "resume", "after": last[channel]} if channel in last else {"action": "subscribe"}
        app.send(json.dumps({**how, "channels": [channel]}))


def on_message(app: websocket.WebSocketApp, text: str) -> None:
    message = json.loads(text)
    if "seq" in message:
        channel = message.get("channel") or f"candles:{message['symbol']}:{message['timeframe']}"
        last[channel] = message["seq"]
        seen(message)


app = websocket.WebSocketApp(f"{KURS.replace('http', 'ws', 1)}/ws/chart-data", on_open=on_open, on_message=on_message)
app.run_forever(ping_interval=20, reconnect=1)
# end

sys.stdout.flush()
