"""Hostile messages: impossible messages by a client with access to the broker."""

import asyncio
import json
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import aio_pika

from services.adapters.rabbit.broker import Broker
from services.core.markets import SIMULATED

PAUSE_SECONDS = 0.5  # between two messages
YEAR = 365 * 86_400_000
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
    """A message of each kind that would be well-formed, of a pair that is not configured; times are now."""
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
    """Messages about a real pair that cannot be true."""
    kinds = {name: json.loads(json.dumps(body).replace("EVIL", "BTC")) for name, body in valid_messages().items()}
    trade, kline, hole, gap = (kinds[name] for name in ("trade", "kline", "hole", "gap"))
    bar = kline["bar"]
    return [
        ("trade", {**trade, "number": 2**63}),
        ("trade", {**trade, "time": now + YEAR}),
        ("trade", {**trade, "time": now + 74 * YEAR}),
        ("trade", {**trade, "price": "1e200000"}),
        ("trade", {**trade, "size": "NaN"}),
        ("trade", {**trade, "fills": 2**63}),
        ("kline", {**kline, "bar": {**bar, "high": "0.5"}}),
        ("kline", {**kline, "bar": {**bar, "timestamp": bar["timestamp"] + 1}}),
        ("kline", {**kline, "bar": {**bar, "volume": "-1"}}),
        ("kline", {**kline, "bar": {**bar, "timestamp": (now + YEAR) // 60_000 * 60_000}}),
        ("hole", {**hole, "since": 1_451_606_400_000, "until": 4_102_444_800_000}),
        ("gap", {**gap, "reason": "a \x00 in it"}),
    ]


def hostile_bodies(chance: Random) -> Iterator[tuple[str, bytes]]:
    """Tag and body of one message after the other, without end."""
    while True:
        now = time.time_ns() // 1_000_000
        if chance.random() < 0.3:
            tag, body = chance.choice(impossible_messages(now))
            yield tag, _encode(tag, body)
        elif chance.random() < 0.2:
            tag = chance.choice(list(valid_messages()))
            yield tag, chance.choice([b"", b"[]", b"null", b"[" * 10_000, chance.randbytes(500), b'[{"type":"evil"}]'])
        else:
            tag, body = chance.choice(list(valid_messages().items()))
            yield tag, _encode(tag, {**body, chance.choice(list(body)): chance.choice(HOSTILE_VALUES)})


def _encode(tag: str, body: dict[str, Any]) -> bytes:
    return json.dumps([{"type": tag, **body}]).encode()


async def publish_until(deadline: float, broker: str, chance: Random) -> int:
    """Publish them; answers how many."""
    connection, count = await aio_pika.connect(broker), 0
    async with connection:
        channel = await connection.channel()
        target = await channel.get_exchange(Broker(broker, {}, 1, SIMULATED).exchange)
        for tag, body in hostile_bodies(chance):
            if time.monotonic() > deadline:
                break
            await target.publish(aio_pika.Message(body), f"{tag}.{'EVIL-USDT'}")
            count += 1
            await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS))
    return count
