"""The first minute of a fresh Kurs: complete forming candles first, then the requested history, with its progress."""

import asyncio
import json
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from services.core.timeframes import MINUTE_MS, TIMEFRAMES
from tests import servers
from tests.conftest import require_installed
from tests.system import FAST_SETTINGS, System, distributed, single_process

FOLLOWED = ("1m", "1h", "1d", "1M")
LOADED = ("1m", "1h")  # whose history is one page; that of days is years
ENV: Mapping[str, str] = {**FAST_SETTINGS, "KURS_EXCHANGES": "binance,coingecko"}
DEADLINE_SECONDS = 240  # on a busy machine; `make bench` measures how long it takes


@pytest.mark.parametrize("form", ["single", "split"])
def test_forming_candles_are_complete_and_requested_history_is_loaded(
    form: str, tmp_path: Path, private: servers.PrivateServers
) -> None:
    if form == "single":
        with single_process(tmp_path, ENV) as system:
            asyncio.run(check_first_minute(system))
        return
    for server in ("postgres", "redis", "rabbit"):
        require_installed(lambda server=server: getattr(private, server))  # type: ignore[misc]
    with distributed(tmp_path, private, ENV) as system:
        asyncio.run(check_first_minute(system))


async def check_first_minute(system: System) -> None:
    url = f"{system.url.replace('http', 'ws')}/ws/chart-data"
    async with asyncio.timeout(DEADLINE_SECONDS), websockets.connect(url) as socket:
        for timeframe in FOLLOWED:
            request = {"action": "subscribe", "symbol": "ETHUSDT", "timeframe": timeframe}
            await socket.send(json.dumps(request))
        formed = dict[str, Any]()
        progress: dict[str, list[Any]] = {name: [] for name in FOLLOWED}
        while len(formed) < len(FOLLOWED) or not all(progress[name] and progress[name][-1]["done"] for name in LOADED):
            message = json.loads(await socket.recv(), parse_float=Decimal)
            if message["type"] == "loading":
                progress[message["timeframe"]].append(message)
            elif is_forming(message) and message["timeframe"] not in formed:
                formed[message["timeframe"]] = message
                await compare_forming(system, message)
    for messages in progress.values():
        counts = [m["available"] for m in messages if not m["done"] and m["available"] is not None]
        assert counts == sorted(counts)
        assert all(m["done"] or m["available"] is None or m["available"] <= m["expected"] for m in messages)
    async with httpx.AsyncClient(base_url=system.url, timeout=20) as client:
        answer = (await client.get("/api/chart-data?symbol=ETHUSDT&timeframe=1h")).json()
        assert "loading" not in answer
        assert len(answer["candles"]) == 1000
        times = [candle["timestamp"] for candle in answer["candles"]]
        assert times == list(TIMEFRAMES["1h"].open_times(times[0], times[-1]))
        coverage = (await client.get("/api/candles/coverage?symbol=ETHUSDT&timeframe=1h")).json()
        assert coverage["missing"] == 0
        assert not coverage["series"][0]["loading"]


def is_forming(message: Any) -> bool:
    """Return whether a message has a forming candle."""
    return message["type"] in ("price_update", "snapshot") and not message["data"]["closed"]


async def compare_forming(system: System, message: Any) -> None:
    """Check that a forming candle contains the trades up to its last closed minute, and no others."""
    data, name = message["data"], message["timeframe"]
    since, closed = data["timestamp"], int(message["time"]) // MINUTE_MS * MINUTE_MS - MINUTE_MS
    async with httpx.AsyncClient(base_url=f"{system.simulator}/binance/api/v3", timeout=20) as client:

        async def rows(interval: str, start: int, end: int) -> list[Any]:
            query: dict[str, str | int] = {"symbol": "ETHUSDT", "interval": interval, "limit": 1000}
            answer = await client.get("/klines", params={**query, "startTime": start, "endTime": end})
            return list(json.loads(answer.text, parse_float=Decimal))

        now = int(time.time() * 1000)
        (true,) = await rows(name, since, now)
        midnight = max(since, TIMEFRAMES["1d"].open_time(closed))
        parts = await rows("1d", since, midnight - 1) if since < midnight else []
        parts += await rows("1h", midnight, hour - 1) if midnight < (hour := TIMEFRAMES["1h"].open_time(closed)) else []
        parts += await rows("1m", max(since, hour), closed - 1)
    assert (true[0], Decimal(true[1])) == (since, data["open"])
    least = sum((Decimal(part[5]) for part in parts), Decimal(0))
    assert least <= data["volume"] <= Decimal(true[5]), name
    assert data["high"] <= Decimal(true[2])
    assert data["low"] >= Decimal(true[3])
    if parts:
        assert data["high"] >= max(Decimal(part[2]) for part in parts)
        assert data["low"] <= min(Decimal(part[3]) for part in parts)
