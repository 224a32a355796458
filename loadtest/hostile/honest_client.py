"""The honest client. It requests rates and candles at a normal rate, and follows both kinds of streams."""

import asyncio
import itertools
import json
import time
from collections import defaultdict
from typing import NamedTuple

import httpx
import websockets

from loadtest.background import BackgroundThread

REQUEST_PAUSES = {
    "/v1/courses": 0.1,
    "/v2/courses": 0.3,
    "/api/chart-data?symbol=BTCUSDT&timeframe=1m": 0.5,
}  # seconds between two requests
STALE_CODE = "nothing-fresh"  # the code of a response without rates because none is fresh
RECONNECT_SECONDS = 0.5
SUBSCRIBE_MESSAGE = {"action": "subscribe", "channels": ["courses", "candles:BTCUSDT:1m"]}


class ClientRequest(NamedTuple):
    """One request. `problem`: why it failed. `stale`: it failed because no rate is fresh."""

    path: str
    seconds: float
    problem: str = ""
    stale: bool = False


class HonestClient(BackgroundThread):
    """A thread that sends requests and follows streams. A `with` block starts and stops it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.requests: list[ClientRequest] = []
        self.received_at: defaultdict[str, list[float]] = defaultdict(list)  # times of the messages of each stream

    def run(self) -> None:
        """Send requests until the thread is stopped."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        work = [self._poll(path, pause) for path, pause in REQUEST_PAUSES.items()]
        tasks = [asyncio.create_task(each) for each in (*work, self._follow_socket(), self._follow_events())]
        await asyncio.to_thread(self.stop_requested.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, path: str, pause: float) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=10) as client:
            while True:
                began = time.monotonic()
                try:
                    response = await client.get(path)
                except httpx.HTTPError as error:
                    self.requests.append(ClientRequest(path, time.monotonic() - began, repr(error)))
                else:
                    self.requests.append(_request_result(path, time.monotonic() - began, response))
                await asyncio.sleep(pause)

    async def _follow_socket(self) -> None:
        while True:
            try:
                url = self._url.replace("http", "ws", 1) + "/ws/chart-data"
                async with websockets.connect(url, proxy=None) as socket:
                    await socket.send(json.dumps(SUBSCRIBE_MESSAGE))
                    async for _ in socket:
                        self.received_at["WebSocket"].append(time.monotonic())
            except (OSError, websockets.WebSocketException, TimeoutError):
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _follow_events(self) -> None:
        while True:
            try:
                url = f"{self._url}/v1/stream?channels=courses"
                async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", url) as response:
                    async for _ in response.aiter_lines():
                        self.received_at["event stream"].append(time.monotonic())
            except httpx.HTTPError:
                await asyncio.sleep(RECONNECT_SECONDS)

    def longest_silence(self, stream: str) -> float:
        """Return the longest time in seconds without a message on a stream."""
        times = self.received_at[stream]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=float("inf"))


def _request_result(path: str, seconds: float, response: httpx.Response) -> ClientRequest:
    if response.status_code == 200:
        return ClientRequest(path, seconds)
    stale = response.status_code == 503 and f'"{STALE_CODE}"' in response.text
    return ClientRequest(path, seconds, f"{response.status_code} {response.text[:300]}", stale)
