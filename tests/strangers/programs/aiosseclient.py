import asyncio
import json
import os
from contextlib import aclosing

KURS = os.environ["KURS"]

# page
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
from aiosseclient import Event, aiosseclient


async def events(url: str) -> AsyncIterator[Event]:
    last = None
    while True:  # it does not connect again by itself
        with suppress(aiohttp.ClientError):
            async for event in aiosseclient(url, last_id=last):
                last = event.id
                yield event


stream = events(f"{KURS}/v1/stream?channels=btc_usd,candles:BTCUSDT:1m&timer=0")
# end


async def main(count: int) -> None:
    async with aclosing(stream):
        async for event in stream:
            print(json.dumps({"channel": event.event, "id": event.id, "data": json.loads(event.data)}))
            if not (count := count - 1):
                break


asyncio.run(main(int(os.environ["EVENTS"])))
