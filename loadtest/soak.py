"""Half an hour in which clients come and go and no two questions are alike, on one process: `make soak`.

Exits with 1 when memory grew from the tenth minute on, or when an answer was an error of ours.
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

SETTLE_MINUTES = 10  # minutes after which memory is to be flat
MAX_GROWTH_SHARE = 0.05  # of the memory held then, that it may grow by until the end
SAMPLE_SECONDS = 5
PAUSES = 0.5, 4.0  # seconds between a client's questions
STAYS = 1.0, 20.0  # seconds that a client of a stream stays
LIMITED = ("API_RATE_LIMIT", "KURS_COURSES_RATE_LIMIT", "KURS_UDF_RATE_LIMIT", "KURS_STREAM_RATE_LIMIT")
BOUNDS = {
    **dict.fromkeys(LIMITED, "100000"),  # so that addresses are counted, and none is refused
    "KURS_STREAM_ADDRESS_CONNECTIONS": "400",
    "KURS_TRUSTED_PROXIES": "127.0.0.1",
}
DIRECTIONS = [f"{base}-{quote}" for base in ("BTC", "ETH", "USDTTRC", "USDTERC") for quote in ("RUB", "USD")]
SYMBOLS = ("BTCUSDT", "ETHUSDT")


class MemorySample(NamedTuple):
    """Megabytes in memory, minutes after the start."""

    minute: float
    megabytes: float


class RandomRequests:
    """Questions of which no two are alike."""

    def __init__(self, seed: int) -> None:
        self.chance, self._numbers = Random(seed), itertools.count(1)
        self._kinds = (
            *((self.courses,) * 3),
            *((self.chart,) * 3),
            *((self.indicators,) * 3),
            *(self.udf, self.analysis, self.coverage, self.history, self.unknown),
        )

    def next(self) -> str:
        """A path with its query."""
        return self.chance.choice(self._kinds)()

    def number(self) -> int:
        """One that was not there before."""
        return next(self._numbers)

    def indicator(self) -> str:
        """One with parameters that hardly anybody else has."""
        name = self.chance.choice([name for name, known in CATALOG.items() if known.parameters])
        values = [
            self.chance.randint(int(each.minimum), min(int(each.maximum), 300))
            if each.integer
            else round(self.chance.uniform(each.minimum, each.maximum), 3)
            for each in CATALOG[name].parameters
        ]
        return ":".join(map(str, (name, *values)))

    def courses(self) -> str:
        """Rates of some directions in some order."""
        some = self.chance.sample(DIRECTIONS, self.chance.randint(1, len(DIRECTIONS)))
        return f"/v{self.chance.choice('12')}/courses?direction={','.join(some)}"

    def chart(self) -> str:
        """Candles of some span."""
        return f"/api/chart-data?{urlencode(self._series() | self._span())}"

    def indicators(self) -> str:
        """Indicators along some span."""
        some = ",".join(self.indicator() for _ in range(self.chance.randint(1, 5)))
        return f"/api/indicators?{urlencode(self._series() | self._span() | {'indicators': some})}"

    def udf(self) -> str:
        """What a chart library requests."""
        now = int(time.time())
        words = {"symbol": self.chance.choice(SYMBOLS), "resolution": self.chance.choice(("1", "5", "60", "1D"))}
        return f"/udf/history?{urlencode(words | {'from': now - self.chance.randint(600, 90_000), 'to': now})}"

    def analysis(self) -> str:
        """An analysis."""
        return f"/api/analysis?{urlencode(self._series() | {'_': self.number()})}"

    def coverage(self) -> str:
        """What is missing."""
        return f"/api/candles/coverage?{urlencode(self._series() | {'_': self.number()})}"

    def history(self) -> str:
        """Events, from any position on."""
        return f"/v1/stream/history?channels={self.channel()}&limit={self.chance.randint(1, 500)}"

    def unknown(self) -> str:
        """What does not exist."""
        number = self.number()
        return self.chance.choice(
            (f"/nothing/{number}", f"/api/chart-data?symbol=NO{number}", f"/udf/symbols?n={number}")
        )

    def channel(self) -> str:
        """Something to follow."""
        symbol, timeframe = self.chance.choice(SYMBOLS), self.chance.choice(("1m", "5m", "1h"))
        kinds = (
            "btc_usd",
            "courses",
            f"candles:{symbol}:{timeframe}",
            *((f"indicators:{symbol}:{timeframe}:{self.indicator()}",) * 3),
        )
        return self.chance.choice(kinds)

    def headers(self) -> dict[str, str]:
        """Those of another client each time."""
        address = ".".join(str(self.chance.randint(1, 254)) for _ in range(4))
        encoding = self.chance.choice(("identity", "gzip"))
        return {"X-Forwarded-For": address, "X-Request-ID": f"soak-{self.number()}", "Accept-Encoding": encoding}

    def _series(self) -> dict[str, str]:
        return {"symbol": self.chance.choice(SYMBOLS), "timeframe": self.chance.choice(list(TIMEFRAMES))}

    def _span(self) -> dict[str, int]:
        until = int(time.time() * 1000) - self.chance.randint(0, 3_600_000)
        return {"to": until, "limit": self.chance.randint(1, 1000)}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with (
        TemporaryDirectory(prefix="kurs-soak-") as folder,
        single_process(Path(folder), {**FAST_SETTINGS, **BOUNDS}) as system,
    ):
        held, statuses = asyncio.run(soak(system, asked.minutes, asked.clients, RandomRequests(asked.seed)))
    print(f"{sum(statuses.values())} answers and streams: {dict(sorted(statuses.items()))}")
    return int(growth(held, min(SETTLE_MINUTES, asked.minutes / 3)) > MAX_GROWTH_SHARE or "500" in statuses)


def growth(held: list[MemorySample], settled: float) -> float:
    """By which part memory grew from the minute `settled` on."""
    later = [each for each in held if each.minute >= settled]
    slope = linear_regression([each.minute for each in later], [each.megabytes for each in later]).slope
    third = max(1, len(later) // 3)
    first, last = (median(each.megabytes for each in part) for part in (later[:third], later[-third:]))
    print(f"memory from minute {settled:.0f} on: {first:.0f} MB, in the end {last:.0f} MB, {slope:+.2f} MB a minute")
    return last / first - 1


async def soak(
    system: System, minutes: float, clients: int, questions: RandomRequests
) -> tuple[list[MemorySample], Counter[str]]:
    """Let clients come and go for this time. Return the memory held on the way, and their responses."""
    statuses, held, began = Counter[str](), list[MemorySample](), time.monotonic()
    kinds: Iterator[Callable[[str, RandomRequests, Counter[str]], Awaitable[None]]] = itertools.cycle(
        (request_client, request_client, request_client, event_client, socket_client)
    )
    tasks = [asyncio.create_task(keep_connecting(next(kinds), system.url, questions, statuses)) for _ in range(clients)]
    process = system.processes["kurs"].process
    assert process
    while (minute := (time.monotonic() - began) / 60) < minutes:
        await asyncio.sleep(SAMPLE_SECONDS)
        held.append(MemorySample(minute, resident_megabytes(process.pid)))
        if len(held) % (60 // SAMPLE_SECONDS) == 0:
            print(f"minute {minute:4.1f}: {held[-1].megabytes:6.1f} MB, {sum(statuses.values())} answers", flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return held, statuses


async def keep_connecting(
    work: Callable[[str, RandomRequests, Counter[str]], Awaitable[None]],
    url: str,
    questions: RandomRequests,
    statuses: Counter[str],
) -> None:
    """A client comes, and goes, and another comes."""
    while True:
        await asyncio.sleep(questions.chance.uniform(*PAUSES))
        try:
            await work(url, questions, statuses)
        except (httpx.HTTPError, OSError, websockets.WebSocketException) as error:
            statuses[type(error).__name__] += 1


async def request_client(url: str, questions: RandomRequests, statuses: Counter[str]) -> None:
    """Some questions by one connection."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        for _ in range(questions.chance.randint(1, 10)):
            answer = await client.get(questions.next(), headers=questions.headers())
            statuses[str(answer.status_code)] += 1
            await asyncio.sleep(questions.chance.uniform(*PAUSES))


async def event_client(url: str, questions: RandomRequests, statuses: Counter[str]) -> None:
    """An event stream, left without a word."""
    channels = ",".join({questions.channel() for _ in range(questions.chance.randint(1, 4))})
    path = f"{url}/v1/stream?channels={quote(channels, safe=',:')}&timer={questions.chance.uniform(0.1, 60):.3f}"
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
        client.stream("GET", path, headers=questions.headers()) as answer,
    ):
        statuses[f"{answer.status_code} events"] += 1
        until = time.monotonic() + questions.chance.uniform(*STAYS)
        async for _ in answer.aiter_raw():
            if time.monotonic() > until:
                return


async def socket_client(url: str, questions: RandomRequests, statuses: Counter[str]) -> None:
    """A WebSocket that follows this and that."""
    address = url.replace("http", "ws", 1) + "/ws/chart-data"
    async with websockets.connect(address, proxy=None, additional_headers=questions.headers()) as client:
        until = time.monotonic() + questions.chance.uniform(*STAYS)
        statuses["101 socket"] += 1
        while time.monotonic() < until:
            channels = [questions.channel() for _ in range(questions.chance.randint(1, 4))]
            await client.send(json.dumps({"action": "subscribe", "channels": channels, "id": questions.number()}))
            try:
                async with asyncio.timeout(questions.chance.uniform(0.5, 5)):
                    async for _ in client:
                        pass
            except TimeoutError:
                pass


def resident_megabytes(pid: int) -> float:
    """Megabytes in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4_096 / 1e6


if __name__ == "__main__":
    sys.exit(main())
