"""Objects of closed connections are freed at once, not later by the garbage collector."""

import gc
from collections import Counter

import httpx
from websockets.server import ServerProtocol

from services.web.http_protocol import FastPathHttpProtocol
from services.web.websocket_protocol import BoundedWebSocketProtocol
from tests import api
from tests.waiting import eventually

CONNECTION_CLASSES = (FastPathHttpProtocol, BoundedWebSocketProtocol, ServerProtocol)


def count_alive() -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in CONNECTION_CLASSES)


async def test_closed_connections_are_freed_without_the_garbage_collector() -> None:
    async with api.serve_replica() as running:
        gc.collect()
        gc.disable()
        try:
            before = count_alive()
            for _ in range(10):
                async with httpx.AsyncClient(base_url=f"http://{running.address}", trust_env=False) as client:
                    for path in ("/v1/directions", "/v1/nothing", "/livez"):
                        await client.get(path)
                async with api.connect_client(running) as socket:
                    await socket.send(action="subscribe", channels=["courses"])
                async with api.open_event_stream(running, "courses"):
                    pass
            await eventually(lambda: count_alive() == before)
        finally:
            gc.enable()
