"""`kurs watch` with a real API: it resumes after broken connections, and prints what people can read."""

import asyncio
import io
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from services.core.model import Bar, Candle, CandleSource, Instrument, Leg, Rate, RateCandidate, Series
from services.core.timeframes import MINUTE_MS
from services.watch.screen import screen
from services.watch.sse_client import Event
from tests.api import ServedReplica, serve_replica
from tests.relay import copy_stream
from tests.waiting import eventually

SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")
START = 1_795_392_000_000
ROOT = Path(__file__).parents[2]
CONNECTION_CUTS, CANDLES_PER_CUT = 8, 10


class CuttableRelay:
    """A TCP relay whose connections a test cuts."""

    def __init__(self, address: str) -> None:
        self._address = address.split(":")
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._address)
        self._writers += (writer, back)
        self.connections += 1
        await asyncio.gather(copy_stream(reader, back), copy_stream(there, writer))


@asynccontextmanager
async def run_relay(address: str) -> AsyncIterator[tuple[CuttableRelay, str]]:
    relay = CuttableRelay(address)
    async with await asyncio.start_server(relay.forward, "127.0.0.1", 0) as server:
        yield relay, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        relay.cut()


def candle(number: int) -> Candle:
    price = Decimal(number)
    bar = Bar(START + number * MINUTE_MS, price, price, price, price, Decimal(1), price, 3)
    return Candle(SERIES, bar, True, CandleSource.EXCHANGE)


async def start_watch(folder: Path, *arguments: str, stdout: int = PIPE) -> Process:
    command = (sys.executable, "-m", "services", "watch", *arguments)
    heed_interrupt = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background process may ignore it
    return await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=stdout, stderr=PIPE, env={"PYTHONPATH": str(ROOT)}, preexec_fn=heed_interrupt
    )


async def test_watch_shows_every_candle_once_over_broken_connections(tmp_path: Path) -> None:
    async with serve_replica() as replica, run_relay(replica.address) as (relay, url):
        await replica.publish(candle(0))
        process = await start_watch(tmp_path, "candles:BTCUSDT:1m", "--url", url)
        assert process.stdout
        assert process.stderr
        lines = [await asyncio.wait_for(process.stdout.readline(), 60)]
        for cut in range(CONNECTION_CUTS):
            for number in range(CANDLES_PER_CUT):
                await replica.publish(candle(1 + cut * CANDLES_PER_CUT + number))
            relay.cut()
            await eventually(lambda cuts=cut + 1: relay.connections > cuts)  # type: ignore[misc]
        async with asyncio.timeout(60):
            lines += [await process.stdout.readline() for _ in range(CONNECTION_CUTS * CANDLES_PER_CUT)]
        assert [int(line.split()[2]) for line in lines] == list(range(CONNECTION_CUTS * CANDLES_PER_CUT + 1))
        assert b" BTCUSDT:1m 0 2026-11-23T00:00:00Z open 0 high 0 low 0 closed" in lines[0]
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 130
        assert b"retrying" in await process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("btc_used",), b"btc_usd"),
        (("--timer", "-1"), b"timer"),
        (("--url", "localhost:8000"), b"is not a URL"),
    ],
)
async def test_wrong_argument_ends_watch_with_2_and_advice(
    tmp_path: Path, arguments: tuple[str, ...], part: bytes
) -> None:
    async with serve_replica() as replica:
        process = await start_watch(tmp_path, "--url", f"http://{replica.address}", *arguments)
        _, error = await process.communicate()
        assert process.returncode == 2
        assert part in error


async def test_watch_prints_rates_as_lines_and_ends_with_0_on_a_closed_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    async with serve_replica() as replica:
        await publish_rate(replica, "97614.93")
        process = await start_watch(tmp_path, "--url", f"http://{replica.address}", stdout=writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as lines:
            assert b" BTC-USD 97614.93 binance\n" in await asyncio.to_thread(lines.readline)
        await publish_rate(replica, "97615")
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert process.stderr
        assert await process.stderr.read() == b""


def test_watch_shows_a_coloured_table_on_a_terminal() -> None:
    written = io.StringIO()
    with screen(Console(file=written, force_terminal=True, width=100), Console(file=io.StringIO())) as shown:
        for value in ("97614.93", "97615.1"):
            shown.show(Event("btc_usd", {"direction": "BTC-USD", "value": value, "exchange": "binance", "time": START}))
        shown.note("the stream has ended; retrying")
    last = written.getvalue().rpartition("BTC-USD")[2]
    assert "\x1b[32m97615.1\x1b[0m" in last
    assert "retrying" in last


async def publish_rate(replica: ServedReplica, value: str) -> None:
    leg = Leg("binance", Instrument("BTC", "USD"), Decimal(value), START, START, START + 5_000, own=True)
    await replica.publish(Rate(leg.instrument, START, (RateCandidate("binance", (leg,), leg.value),)))
