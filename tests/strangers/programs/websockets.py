import asyncio
import os
from contextlib import aclosing

KURS = os.environ["KURS"]

# page
import json
from collections.abc import AsyncIterator
from typing import Any

import websockets

CHANNELS = ("btc_usd", "candles:BTCUSDT:1m")


async def messages(url: str) -> AsyncIterator[dict[str, Any]]:
    last: dict[str, int] = {}
    async for socket in websockets.connect(url):  # connects again
        try:
            for channel in CHANNELS:
                how = {"action": "resume", "after": last[channel]} if channel in last else {"action": "subscribe"}
                await socket.send(json.dumps({**how, "channels": [channel]}))
            async for text in socket:
                message = json.loads(text)
                if "seq" in message:
                    channel = message.get("channel") or f"candles:{message['symbol']}:{message['timeframe']}"
                    last[channel] = message["seq"]
                    yield message
        except websockets.ConnectionClosed:
            pass


stream = messages(f"{KURS.replace('http', 'ws', 1)}/ws/chart-data")
# end


async def main(count: int) -> None:
    async with aclosing(stream):
        async for message in stream:
            print(json.dumps(message))
            if not (count := count - 1):
                break


asyncio.run(main(int(os.environ["EVENTS"])))
