"""Live streams while bus, journal or store are late or down, and clients that request too much."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from services.adapters.memory import MemoryBus, MemoryJournal, MemoryStore
from services.api.streams.channels import Channel
from services.api.streams.client import StreamClient
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
async def replica() -> AsyncIterator[ServedReplica]:
    async with serve_replica() as running:
        yield running


class GatedJournal(MemoryJournal):
    """A journal whose reads wait for `may`."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.may = asyncio.Event(), asyncio.Event()

    async def read_after(self, topic: str, seq: int, limit: int) -> list[JournalEntry] | None:
        self.reading.set()
        await self.may.wait()
        return await super().read_after(topic, seq, limit)


class GatedCandleStore(MemoryStore):
    """A store whose `latest_candles` waits for `may`."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def latest_candles(
        self, series: Series, until: int, count: int, *, forming_since: int | None = None
    ) -> list[Candle]:
        await self.may.wait()
        return await super().latest_candles(series, until, count, forming_since=forming_since)


def journal_only_publisher(replica: ServedReplica) -> SequencedPublisher:
    """Return a publisher whose messages reach the journal but not the bus of the replica."""
    return sequenced_publisher(replace(replica.deps, bus=MemoryBus()))


async def test_client_that_subscribes_during_a_bus_outage_misses_nothing(replica: ServedReplica) -> None:
    await replica.publish(candle(0, 100))
    await journal_only_publisher(replica).publish(candle(0, 101, closed=True), candle(1, 102))
    async with connect_client(replica) as client:
        await client.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        assert (await client.next("snapshot"))["data"]["close"] == 100
        rows = [(await client.next("price_update"))["data"] for _ in range(2)]
        assert [(row["close"], row["closed"]) for row in rows] == [(101, True), (102, False)]


async def test_catch_up_ignores_a_subscription_without_its_snapshot() -> None:
    store = GatedCandleStore()
    async with serve_replica(store=store) as replica, connect_client(replica) as client:
        await replica.publish(rate(BTC, "1"))
        await client.send(action="subscribe", channels=["courses"])
        await client.next("snapshot")
        await journal_only_publisher(replica).publish(candle(0, 100))  # in the journal, unknown to this replica
        await client.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await client.next("subscribed")
        await journal_only_publisher(replica).publish(rate(BTC, "2"))
        assert (await client.next("courses_update"))["data"]["value"] == "2"  # read from the journal meanwhile
        store.may.set()
        await replica.publish(candle(0, 101))
        assert (await client.next())["data"]["close"] == 101


async def test_unsubscribing_during_catch_up_ends_it() -> None:
    journal = GatedJournal()
    async with serve_replica(journal) as replica, connect_client(replica) as client:
        await replica.publish(candle(0, 100))
        await client.send(action="subscribe", symbol="BTCUSDT", timeframe="1m")
        await client.next("snapshot")
        await journal_only_publisher(replica).publish(candle(0, 101))
        await sequenced_publisher(replica.deps).publish(candle(0, 102))  # the replica lacks the entry before
        await journal.reading.wait()
        await client.send(action="unsubscribe", symbol="BTCUSDT", timeframe="1m")
        await client.next("unsubscribed")
        journal.may.set()
        for _ in range(10):
            await client.send(action="ping")
            assert await client.next() == {"type": "pong"}


@pytest.mark.parametrize("timer", [-1, 0.01, 1e9])
async def test_interval_out_of_bounds_is_refused(replica: ServedReplica, timer: float) -> None:
    async with connect_client(replica) as client, httpx.AsyncClient() as http:
        await client.send(action="subscribe", channels=["courses"], timer=timer)
        assert (await client.next("error"))["code"] == "bad-range"
        answer = await http.get(replica.stream_url, params={"channels": "courses", "timer": timer})
        assert (answer.status_code, answer.json()["code"]) == (422, "bad-range")


async def test_ended_subscriptions_leave_no_task_channel_or_topic(replica: ServedReplica) -> None:
    names = [f"indicators:BTCUSDT:{timeframe}:sma:{bars}" for timeframe in TIMEFRAMES for bars in range(2, 42)]
    async with connect_client(replica) as client:
        await client.next("welcome")
        tasks, before = len(asyncio.all_tasks()), len(live_objects(Channel, TopicState))
        for first in range(0, len(names), 20):
            some = {"channels": [*names[first : first + 20], "courses"], "timer": 60 + first}
            for action in ("subscribe", "unsubscribe"):
                await client.send(action=action, **some)
                await client.next(f"{action}d")
        assert len(asyncio.all_tasks()) <= tasks
        assert len(live_objects(Channel, TopicState)) <= before + 1  # that of courses, which every replica has


async def test_requests_of_a_client_that_does_not_read_are_not_answered(replica: ServedReplica) -> None:
    await replica.publish(*(candle(0, 100, series=SERIES._replace(timeframe=each)) for each in TIMEFRAMES))
    _, writer = await connect_stalled(replica)
    (served,) = live_objects(StreamClient)
    channels = ",".join(f'"candles:BTCUSDT:{each}"' for each in TIMEFRAMES)
    for number in range(98):
        action = "unsubscribe" if number % 2 else "subscribe"
        writer.write(masked_frame(f'{{"action":"{action}","channels":[{channels}]}}'.encode()))
    await eventually(lambda: served.output.writer.buffered > MAX_BUFFERED_BYTES)
    await asyncio.sleep(0.5)  # in which it would answer all of them
    assert served.output.writer.buffered < 2 * MAX_BUFFERED_BYTES
    writer.close()


def masked_frame(payload: bytes) -> bytes:
    """Return a client's frame with a mask of zeros."""
    return b"\x81\xfe" + len(payload).to_bytes(2) + b"\0\0\0\0" + payload
