import asyncio
import json
import os
from contextlib import aclosing

KURS = os.environ["KURS"]

# page
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import aiohttp

CHANNELS = ("btc_usd", "candles:BTCUSDT:1m")


async def messages(url: str) -> AsyncIterator[dict[str, Any]]:
    last: dict[str, int] = {}
    async with aiohttp.ClientSession() as session:
        while True:  # it does not connect again by itself
            with suppress(aiohttp.ClientError):
                async with session.ws_connect(url, heartbeat=20) as socket:
                    for channel in CHANNELS:
                        known = channel in last
                        how = {"action": "resume", "after": last[channel]} if known else {"action": "subscribe"}
                        await socket.send_json({**how, "channels": [channel]})
                    async for frame in socket:
                        message = frame.json()
                        if "seq" in message:
                            channel = message.get("channel") or f"candles:{message['symbol']}:{message['timeframe']}"
                            last[channel] = message["seq"]
                            yield message


stream = messages(f"{KURS}/ws/chart-data")
# end


async def main(count: int) -> None:
    async with aclosing(stream):
        async for message in stream:
            print(json.dumps(message))
            if not (count := count - 1):
                break


asyncio.run(main(int(os.environ["EVENTS"])))
