"""Live streams while bus, journal or store are late or down, and clients that request too much."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from services.adapters.memory import MemoryBus, MemoryJournal, MemoryStore
from services.api.streams.channels import Channel
from services.api.streams.client import StreamClient as Served
from services.api.streams.output import MAX_BUFFERED_BYTES
from services.api.streams.topics import TopicState
from services.core.journal import JournalEntry
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES
from services.sequencing import SequencedPublisher, sequenced_publisher
from tests.api import ServedReplica, connect_client, connect_stalled, serve_replica
from tests.live_objects import live_objects
from tests.stream_messages import BTC, SERIES, candle, rate
from tests.waiting import eventually


@pytest.fixture
async def here() -> AsyncIterator[ServedReplica]:
    async with serve_replica() as running:
        yield running


class GatedJournal(MemoryJournal):
    """A journal that answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def read_after(self, topic: str, seq: int, limit: int) -> list[JournalEntry] | None:
        self.asked.set()
        await self.may.wait()
        return await super().read_after(topic, seq, limit)


class GatedCandleStore(MemoryStore):
    """A store that tells the last candle when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def latest_candles(
        self, series: Series, until: int, count: int, *, forming_since: int | None = None
    ) -> list[Candle]:
        await self.may.wait()
        return await super().latest_candles(series, until, count, forming_since=forming_since)


def journal_only_publisher(here: ServedReplica) -> SequencedPublisher:
    """A voice that reaches the journal, but nobody over the bus."""
    return sequenced_publisher(replace(here.deps, bus=MemoryBus()))


async def test_client_that_subscribes_during_a_bus_outage_misses_nothing(here: ServedReplica) -> None:
    await here.publish(candle(0, 100))
    await journal_only_publisher(here).publish(candle(0, 101, closed=True), candle(1, 102))
    async with connect_client(here) as one:
        await one.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        assert (await one.next("snapshot"))["data"]["close"] == 100
        told = [(await one.next("price_update"))["data"] for _ in range(2)]
        assert [(row["close"], row["closed"]) for row in told] == [(101, True), (102, False)]


async def test_catch_up_ignores_a_subscription_without_its_snapshot() -> None:
    store = GatedCandleStore()
    async with serve_replica(store=store) as here, connect_client(here) as one:
        await here.publish(rate(BTC, "1"))
        await one.send(action="subscribe", channels=["courses"])
        await one.next("snapshot")
        await journal_only_publisher(here).publish(candle(0, 100))  # known to the journal, and not to this replica
        await one.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await one.next("subscribed")
        await journal_only_publisher(here).publish(rate(BTC, "2"))
        assert (await one.next("courses_update"))["data"]["value"] == "2"  # read in the journal meanwhile
        store.may.set()
        await here.publish(candle(0, 101))
        assert (await one.next())["data"]["close"] == 101


async def test_unsubscribing_during_catch_up_ends_it() -> None:
    journal = GatedJournal()
    async with serve_replica(journal) as here, connect_client(here) as one:
        await here.publish(candle(0, 100))
        await one.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await one.next("snapshot")
        await journal_only_publisher(here).publish(candle(0, 101))
        await sequenced_publisher(here.deps).publish(candle(0, 102))  # whose predecessor it lacks
        await journal.asked.wait()
        await one.send(action="unsubscribe", symbol="BTCUSDT", timeframe="1m")
        await one.next("unsubscribed")
        journal.may.set()
        for _ in range(10):
            await one.send(action="ping")
            assert await one.next() == {"type": "pong"}


@pytest.mark.parametrize("timer", [-1, 0.01, 1e9])
async def test_interval_out_of_bounds_is_refused(here: ServedReplica, timer: float) -> None:
    async with connect_client(here) as one, httpx.AsyncClient() as http:
        await one.send(action="subscribe", channels=["courses"], timer=timer)
        assert (await one.next("error"))["code"] == "bad-range"
        answer = await http.get(here.stream_url, params={"channels": "courses", "timer": timer})
        assert (answer.status_code, answer.json()["code"]) == (422, "bad-range")


async def test_ended_subscriptions_leave_no_task_channel_or_topic(here: ServedReplica) -> None:
    names = [f"indicators:BTCUSDT:{timeframe}:sma:{bars}" for timeframe in TIMEFRAMES for bars in range(2, 42)]
    async with connect_client(here) as one:
        await one.next("welcome")
        tasks, before = len(asyncio.all_tasks()), len(live_objects(Channel, TopicState))
        for first in range(0, len(names), 20):
            some = {"channels": [*names[first : first + 20], "courses"], "timer": 60 + first}
            for action in ("subscribe", "unsubscribe"):
                await one.send(action=action, **some)
                await one.next(f"{action}d")
        assert len(asyncio.all_tasks()) <= tasks
        assert len(live_objects(Channel, TopicState)) <= before + 1  # courses, of which every replica hears


async def test_requests_of_a_client_that_does_not_read_wait(here: ServedReplica) -> None:
    await here.publish(*(candle(0, 100, series=SERIES._replace(timeframe=each)) for each in TIMEFRAMES))
    _, writer = await connect_stalled(here)
    (served,) = live_objects(Served)
    channels = ",".join(f'"candles:BTCUSDT:{each}"' for each in TIMEFRAMES)
    for number in range(98):
        action = "unsubscribe" if number % 2 else "subscribe"
        writer.write(masked_frame(f'{{"action":"{action}","channels":[{channels}]}}'.encode()))
    await eventually(lambda: served.output.writer.buffered > MAX_BUFFERED_BYTES)
    await asyncio.sleep(0.5)  # in which all of them would be answered
    assert served.output.writer.buffered < 2 * MAX_BUFFERED_BYTES
    writer.close()


def masked_frame(payload: bytes) -> bytes:
    """A client's frame, under a mask of zeros."""
    return b"\x81\xfe" + len(payload).to_bytes(2) + b"\0\0\0\0" + payload
