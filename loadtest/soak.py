"""Half an hour of clients that connect and disconnect and of different requests, on one process: `make soak`.

Exits with 1 when memory grew from the tenth minute on, or when a response was 500.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from statistics import linear_regression, median
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import quote, urlencode

import httpx
import websockets

from services.core.indicators import CATALOG
from services.core.timeframes import TIMEFRAMES
from tests.system import FAST_SETTINGS, System, single_process

SETTLE_MINUTES = 10  # after which memory must not grow
MAX_GROWTH_SHARE = 0.05  # of the memory after these minutes
SAMPLE_SECONDS = 5
PAUSES = 0.5, 4.0  # seconds between two requests of a client
STREAM_SECONDS = 1.0, 20.0  # that a client of a stream stays connected
LIMITED = ("API_RATE_LIMIT", "KURS_COURSES_RATE_LIMIT", "KURS_UDF_RATE_LIMIT", "KURS_STREAM_RATE_LIMIT")
BOUNDS = {
    **dict.fromkeys(LIMITED, "100000"),  # so that addresses are counted, but not refused
    "KURS_STREAM_ADDRESS_CONNECTIONS": "400",
    "KURS_TRUSTED_PROXIES": "127.0.0.1",
}
DIRECTIONS = [f"{base}-{quote}" for base in ("BTC", "ETH", "USDTTRC", "USDTERC") for quote in ("RUB", "USD")]
SYMBOLS = ("BTCUSDT", "ETHUSDT")


class MemorySample(NamedTuple):
    """The resident memory some minutes after the start."""

    minute: float
    megabytes: float


class RandomRequests:
    """Different requests without end."""

    def __init__(self, seed: int) -> None:
        self.rng, self._numbers = Random(seed), itertools.count(1)
        self._kinds = (
            *((self.courses,) * 3),
            *((self.chart,) * 3),
            *((self.indicators,) * 3),
            *(self.udf, self.analysis, self.coverage, self.history, self.unknown),
        )

    def next(self) -> str:
        """Return a path with its query."""
        return self.rng.choice(self._kinds)()

    def number(self) -> int:
        """Return a number that was not used before."""
        return next(self._numbers)

    def indicator(self) -> str:
        """Return an indicator spec with rare parameters."""
        name = self.rng.choice([name for name, known in CATALOG.items() if known.parameters])
        values = [
            self.rng.randint(int(each.minimum), min(int(each.maximum), 300))
            if each.integer
            else round(self.rng.uniform(each.minimum, each.maximum), 3)
            for each in CATALOG[name].parameters
        ]
        return ":".join(map(str, (name, *values)))

    def courses(self) -> str:
        """Return a request for rates of some directions in some order."""
        some = self.rng.sample(DIRECTIONS, self.rng.randint(1, len(DIRECTIONS)))
        return f"/v{self.rng.choice('12')}/courses?direction={','.join(some)}"

    def chart(self) -> str:
        """Return a request for candles of some span."""
        return f"/api/chart-data?{urlencode(self._series() | self._span())}"

    def indicators(self) -> str:
        """Return a request for indicators over some span."""
        some = ",".join(self.indicator() for _ in range(self.rng.randint(1, 5)))
        return f"/api/indicators?{urlencode(self._series() | self._span() | {'indicators': some})}"

    def udf(self) -> str:
        """Return a request as a chart library sends it."""
        now = int(time.time())
        words = {"symbol": self.rng.choice(SYMBOLS), "resolution": self.rng.choice(("1", "5", "60", "1D"))}
        return f"/udf/history?{urlencode(words | {'from': now - self.rng.randint(600, 90_000), 'to': now})}"

    def analysis(self) -> str:
        """Return a request for an analysis."""
        return f"/api/analysis?{urlencode(self._series() | {'_': self.number()})}"

    def coverage(self) -> str:
        """Return a request for candle gaps."""
        return f"/api/candles/coverage?{urlencode(self._series() | {'_': self.number()})}"

    def history(self) -> str:
        """Return a request for past events of a channel."""
        return f"/v1/stream/history?channels={self.channel()}&limit={self.rng.randint(1, 500)}"

    def unknown(self) -> str:
        """Return a request for something that does not exist."""
        number = self.number()
        return self.rng.choice((f"/nothing/{number}", f"/api/chart-data?symbol=NO{number}", f"/udf/symbols?n={number}"))

    def channel(self) -> str:
        """Return a channel."""
        symbol, timeframe = self.rng.choice(SYMBOLS), self.rng.choice(("1m", "5m", "1h"))
        kinds = (
            "btc_usd",
            "courses",
            f"candles:{symbol}:{timeframe}",
            *((f"indicators:{symbol}:{timeframe}:{self.indicator()}",) * 3),
        )
        return self.rng.choice(kinds)

    def headers(self) -> dict[str, str]:
        """Return the headers of a new client."""
        address = ".".join(str(self.rng.randint(1, 254)) for _ in range(4))
        encoding = self.rng.choice(("identity", "gzip"))
        return {"X-Forwarded-For": address, "X-Request-ID": f"soak-{self.number()}", "Accept-Encoding": encoding}

    def _series(self) -> dict[str, str]:
        return {"symbol": self.rng.choice(SYMBOLS), "timeframe": self.rng.choice(list(TIMEFRAMES))}

    def _span(self) -> dict[str, int]:
        until = int(time.time() * 1000) - self.rng.randint(0, 3_600_000)
        return {"to": until, "limit": self.rng.randint(1, 1000)}


def main() -> int:
    """Run the soak test."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with (
        TemporaryDirectory(prefix="kurs-soak-") as folder,
        single_process(Path(folder), {**FAST_SETTINGS, **BOUNDS}) as system,
    ):
        samples, statuses = asyncio.run(soak(system, args.minutes, args.clients, RandomRequests(args.seed)))
    print(f"{sum(statuses.values())} responses and streams: {dict(sorted(statuses.items()))}")
    return int(growth(samples, min(SETTLE_MINUTES, args.minutes / 3)) > MAX_GROWTH_SHARE or "500" in statuses)


def growth(samples: list[MemorySample], settled: float) -> float:
    """Return the share by which memory grew from the minute `settled` on."""
    settled_samples = [each for each in samples if each.minute >= settled]
    slope = linear_regression(
        [each.minute for each in settled_samples], [each.megabytes for each in settled_samples]
    ).slope
    third = max(1, len(settled_samples) // 3)
    first, last = (
        median(each.megabytes for each in part) for part in (settled_samples[:third], settled_samples[-third:])
    )
    print(f"memory from minute {settled:.0f} on: {first:.0f} MB, in the end {last:.0f} MB, {slope:+.2f} MB a minute")
    return last / first - 1


async def soak(
    system: System, minutes: float, clients: int, requests: RandomRequests
) -> tuple[list[MemorySample], Counter[str]]:
    """Run clients for this time. Return samples of the memory, and how often each result occurred."""
    statuses, samples, began = Counter[str](), list[MemorySample](), time.monotonic()
    kinds: Iterator[Callable[[str, RandomRequests, Counter[str]], Awaitable[None]]] = itertools.cycle(
        (request_client, request_client, request_client, event_client, socket_client)
    )
    tasks = [asyncio.create_task(keep_connecting(next(kinds), system.url, requests, statuses)) for _ in range(clients)]
    process = system.processes["kurs"].process
    assert process
    while (minute := (time.monotonic() - began) / 60) < minutes:
        await asyncio.sleep(SAMPLE_SECONDS)
        samples.append(MemorySample(minute, resident_megabytes(process.pid)))
        if len(samples) % (60 // SAMPLE_SECONDS) == 0:
            print(
                f"minute {minute:4.1f}: {samples[-1].megabytes:6.1f} MB, {sum(statuses.values())} responses", flush=True
            )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return samples, statuses


async def keep_connecting(
    client: Callable[[str, RandomRequests, Counter[str]], Awaitable[None]],
    url: str,
    requests: RandomRequests,
    statuses: Counter[str],
) -> None:
    """Run one client after another."""
    while True:
        await asyncio.sleep(requests.rng.uniform(*PAUSES))
        try:
            await client(url, requests, statuses)
        except (httpx.HTTPError, OSError, websockets.WebSocketException) as error:
            statuses[type(error).__name__] += 1


async def request_client(url: str, requests: RandomRequests, statuses: Counter[str]) -> None:
    """Send some requests on one connection."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        for _ in range(requests.rng.randint(1, 10)):
            response = await client.get(requests.next(), headers=requests.headers())
            statuses[str(response.status_code)] += 1
            await asyncio.sleep(requests.rng.uniform(*PAUSES))


async def event_client(url: str, requests: RandomRequests, statuses: Counter[str]) -> None:
    """Read an event stream for a while, then close the connection."""
    channels = ",".join({requests.channel() for _ in range(requests.rng.randint(1, 4))})
    path = f"{url}/v1/stream?channels={quote(channels, safe=',:')}&timer={requests.rng.uniform(0.1, 60):.3f}"
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
        client.stream("GET", path, headers=requests.headers()) as response,
    ):
        statuses[f"{response.status_code} events"] += 1
        until = time.monotonic() + requests.rng.uniform(*STREAM_SECONDS)
        async for _ in response.aiter_raw():
            if time.monotonic() > until:
                return


async def socket_client(url: str, requests: RandomRequests, statuses: Counter[str]) -> None:
    """Open a WebSocket and change its subscriptions for a while."""
    address = url.replace("http", "ws", 1) + "/ws/chart-data"
    async with websockets.connect(address, proxy=None, additional_headers=requests.headers()) as client:
        until = time.monotonic() + requests.rng.uniform(*STREAM_SECONDS)
        statuses["101 socket"] += 1
        while time.monotonic() < until:
            channels = [requests.channel() for _ in range(requests.rng.randint(1, 4))]
            await client.send(json.dumps({"action": "subscribe", "channels": channels, "id": requests.number()}))
            try:
                async with asyncio.timeout(requests.rng.uniform(0.5, 5)):
                    async for _ in client:
                        pass
            except TimeoutError:
                pass


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process in megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4_096 / 1e6


if __name__ == "__main__":
    sys.exit(main())
