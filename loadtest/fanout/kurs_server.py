"""Kurs's API with a bus in memory, and a service that publishes candles like the writer, from SIGUSR2 on.

python -m loadtest.fanout.kurs_server PORT PER_SECOND
"""

import asyncio
import sys
import time
from decimal import Decimal

import uvloop
from fastapi import APIRouter

from loadtest.fanout import pacing
from services import runtime
from services.core.model import Bar, Candle, CandleSource, Instrument, Series
from services.core.timeframes import MINUTE_MS
from services.ports import Deps
from services.runtime import ProcessSpec
from services.sequencing import sequenced_publisher
from services.settings import load

SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")
SIZE = Decimal("12.5")


def candle() -> Candle:
    """Return the forming candle. Its close is the current time in seconds of the monotonic clock."""
    now, opened = Decimal(f"{time.monotonic():.6f}"), int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    return Candle(SERIES, Bar(opened, SIZE, now, SIZE, now, SIZE, SIZE, 7), False, CandleSource.TRADES)


async def publish_candles(deps: Deps) -> None:
    """Publish candles at the rate of the command line."""
    publisher = sequenced_publisher(deps)
    async for _ in pacing.ticks_from_signal(float(sys.argv[2])):
        await publisher.publish(candle())


ROUTERS: list[APIRouter] = []
JOBS = [publish_candles]
NEEDS: tuple[str, ...] = ()


if __name__ == "__main__":
    runtime.SERVICES = ("api", "publisher")  # type: ignore[assignment]
    sys.modules["services.publisher"] = sys.modules[__name__]
    settings = load(port=int(sys.argv[1]), market="live", exchanges=("binance",), data_dir=".")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(runtime.run(settings, ProcessSpec(("api", "publisher"), ("binance",)))))
