"""What a connection leaves behind: nothing, at once, and not when the garbage collector comes round to what is old."""

import asyncio
import gc
from collections import Counter

import httpx
from websockets.server import ServerProtocol

from services.web.http_protocol import Protocol
from services.web.websocket_protocol import SocketProtocol
from tests import api

OURS = (Protocol, SocketProtocol, ServerProtocol)


def alive() -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in OURS)


async def test_connections_that_are_over_are_not_left_to_the_garbage_collector() -> None:
    async with api.replica() as running:
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(10):
                async with httpx.AsyncClient(base_url=f"http://{running.address}", trust_env=False) as client:
                    for path in ("/v1/directions", "/v1/nothing", "/livez"):
                        await client.get(path)
                async with api.client(running) as socket:
                    await socket.ask(action="subscribe", channels=["courses"])
                async with api.events(running, "courses"):
                    pass
            async with asyncio.timeout(10):
                while alive() != before:
                    await asyncio.sleep(0.05)
        finally:
            gc.enable()
