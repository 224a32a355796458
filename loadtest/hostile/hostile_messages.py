"""Hostile messages: malformed and impossible messages of a client with access to the broker."""

import asyncio
import json
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import aio_pika

from services.adapters.rabbit.broker import Broker
from services.core.markets import SIMULATED

PAUSE_SECONDS = 0.5  # at most, between two messages
YEAR_MS = 365 * 86_400_000
HOSTILE_VALUES: tuple[Any, ...] = (
    *(
        2**63,
        -(2**63),
        2**64,
        10**30,
        -1,
        1e308,
        "1e200000",
        "-1",
        "NaN",
        "Infinity",
        "\x00",
        "x" * 100_000,
        None,
        [],
        {},
    ),
    *(True, "7m", "٣", "9" * 5_000),
)


def valid_messages() -> dict[str, dict[str, Any]]:
    """Return a valid message of each kind, of a pair that is not configured, with current times."""
    now = time.time_ns() // 1_000_000
    minute = now // 60_000 * 60_000 - 600_000
    pair, series = ["EVIL", "USDT", ""], ["binance", ["EVIL", "USDT", ""], "1m"]
    bar = {"timestamp": minute, "trades": 1} | dict.fromkeys(("open", "high", "low", "close"), "1")
    bar |= {"volume": "1", "quote_volume": "1"}
    trade = {
        "exchange": "binance",
        "instrument": pair,
        "received": now,
        "time": now,
        "price": "1",
        "size": "1",
        "number": 1,
    }
    return {
        "trade": trade,
        "kline": {"series": series, "bar": bar},
        "hole": {"series": series, "since": minute, "until": minute, "noticed": now},
        "gap": {"exchange": "binance", "since": now, "until": now, "reason": "none", "instrument": pair},
        "tick": {"exchange": "binance", "instrument": pair, "received": now, "price": "1"},
        "candle": {"series": series, "bar": bar, "closed": False, "source": "ticks"},
        "wish": {"series": series, "indicator": "sma:20", "until": now},
    }


def impossible_messages(now: int) -> list[tuple[str, dict[str, Any]]]:
    """Return messages of a configured pair whose content is impossible."""
    kinds = {name: json.loads(json.dumps(body).replace("EVIL", "BTC")) for name, body in valid_messages().items()}
    trade, kline, hole, gap = (kinds[name] for name in ("trade", "kline", "hole", "gap"))
    bar = kline["bar"]
    return [
        ("trade", {**trade, "number": 2**63}),
        ("trade", {**trade, "time": now + YEAR_MS}),
        ("trade", {**trade, "time": now + 74 * YEAR_MS}),
        ("trade", {**trade, "price": "1e200000"}),
        ("trade", {**trade, "size": "NaN"}),
        ("trade", {**trade, "fills": 2**63}),
        ("kline", {**kline, "bar": {**bar, "high": "0.5"}}),
        ("kline", {**kline, "bar": {**bar, "timestamp": bar["timestamp"] + 1}}),
        ("kline", {**kline, "bar": {**bar, "volume": "-1"}}),
        ("kline", {**kline, "bar": {**bar, "timestamp": (now + YEAR_MS) // 60_000 * 60_000}}),
        ("hole", {**hole, "since": 1_451_606_400_000, "until": 4_102_444_800_000}),
        ("gap", {**gap, "reason": "a \x00 in it"}),
    ]


def hostile_bodies(rng: Random) -> Iterator[tuple[str, bytes]]:
    """Yield the tag and body of messages without end."""
    while True:
        now = time.time_ns() // 1_000_000
        if rng.random() < 0.3:
            tag, body = rng.choice(impossible_messages(now))
            yield tag, _encode(tag, body)
        elif rng.random() < 0.2:
            tag = rng.choice(list(valid_messages()))
            yield tag, rng.choice([b"", b"[]", b"null", b"[" * 10_000, rng.randbytes(500), b'[{"type":"evil"}]'])
        else:
            tag, body = rng.choice(list(valid_messages().items()))
            yield tag, _encode(tag, {**body, rng.choice(list(body)): rng.choice(HOSTILE_VALUES)})


def _encode(tag: str, body: dict[str, Any]) -> bytes:
    return json.dumps([{"type": tag, **body}]).encode()


async def publish_until(deadline: float, broker: str, rng: Random) -> int:
    """Publish hostile messages until the deadline. Return their number."""
    connection, count = await aio_pika.connect(broker), 0
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(Broker(broker, {}, 1, SIMULATED).exchange)
        for tag, body in hostile_bodies(rng):
            if time.monotonic() > deadline:
                break
            await exchange.publish(aio_pika.Message(body), f"{tag}.{'EVIL-USDT'}")
            count += 1
            await asyncio.sleep(rng.uniform(0, PAUSE_SECONDS))
    return count
