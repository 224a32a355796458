"""A collector without a database sends its store queries over the bus to the writer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from services.adapters import remote_store, sql
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryStore
from services.adapters.remote_store import RemoteStore
from services.core.bounds import LATEST_MS
from services.core.errors import Unavailable
from services.core.model import (
    Bar,
    Candle,
    CandleGap,
    CandleGapState,
    CandleSource,
    Instrument,
    Message,
    Series,
    StoreLookup,
    StoreQuery,
    StoreReply,
)
from services.core.timeframes import MINUTE_MS
from services.ports import LOOKUP_TIMEOUT_SECONDS, Bus, CandleReader, Clock, Deps, Store
from services.writer.store_queries import serve_store_queries
from tests.deps import make_deps
from tests.system import run_command

SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")
FIRST, ONE = 1_700_000_040_000, Decimal("1.10")
OPENINGS = [FIRST + minute * MINUTE_MS for minute in range(10)]


def candle(opening: int, origin: CandleSource) -> Candle:
    return Candle(SERIES, Bar(opening, ONE, ONE, ONE, ONE, ONE, ONE, 1), True, origin)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[sql.SqlStore]:
    url = f"sqlite+aiosqlite:///{tmp_path}/kurs.db"
    await sql.migrate(url)
    store = await sql.connect(url)
    await store.save(
        *(
            candle(opening, CandleSource.TRADES if place < 3 else CandleSource.EXCHANGE)
            for place, opening in enumerate(OPENINGS[:5])
        ),
        candle(OPENINGS[8], CandleSource.EXCHANGE),
        CandleGap(SERIES, OPENINGS[5], OPENINGS[6], FIRST),
        CandleGap(SERIES, OPENINGS[7], OPENINGS[7], FIRST, CandleGapState.ABSENT, FIRST),
        CandleGap(SERIES._replace(timeframe="5m"), FIRST, FIRST, FIRST),
    )
    yield store
    await store.close()


class MonotonicManualClock(SystemClock):
    """A system clock whose monotonic time a test sets."""

    time = 0

    def monotonic(self) -> int:
        return self.time


class GatedStore(MemoryStore):
    """A store whose lookups wait for `free`."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups: list[str] = []
        self.free = asyncio.Event()

    async def missing_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        self.lookups.append(series.exchange)
        await self.free.wait()
        return [(since, until)]


class BreakingBus(MemoryBus):
    """A bus whose subscription to replies ends after the first one. The next subscription waits for `back`."""

    def __init__(self) -> None:
        super().__init__()
        self.back, self.subscriptions = asyncio.Event(), 0

    @asynccontextmanager
    async def subscribe(self, *kinds: type[Message]) -> AsyncIterator[AsyncIterator[Message]]:
        if StoreReply not in kinds:
            async with super().subscribe(*kinds) as messages:
                yield messages
            return
        self.subscriptions += 1
        if self.subscriptions > 1:
            await self.back.wait()
        async with super().subscribe(*kinds) as messages, aclosing(self._some(messages)) as some:
            yield some

    async def _some(self, messages: AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        async for message in messages:
            yield message
            if self.subscriptions == 1:
                return


def deps_with(bus: Bus, clock: Clock, store: CandleReader) -> Deps:
    return make_deps(clock=clock, bus=bus, store=cast("Store", store))


async def run_ready_tasks() -> None:
    """Let every task of this test run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


def query(exchange: str, since: int = FIRST, until: int = FIRST) -> StoreQuery:
    return StoreQuery(exchange, StoreLookup.MISSING, SERIES._replace(exchange=exchange), since, until, 1)


async def test_query_that_is_too_old_is_dropped() -> None:
    bus, clock, store = MemoryBus(), MonotonicManualClock(), GatedStore()
    writer = asyncio.create_task(serve_store_queries(deps_with(bus, clock, store)))
    await run_ready_tasks()
    await bus.publish(query("slow"), query("stale"))
    await run_ready_tasks()
    clock.time += LOOKUP_TIMEOUT_SECONDS * 1000
    await bus.publish(query("fresh"))
    await run_ready_tasks()
    async with bus.subscribe(StoreReply) as replies:
        store.free.set()
        ids = [(await anext(replies)).id for _ in range(2)]  # type: ignore[union-attr]
    assert store.lookups == ids == ["slow", "fresh"]
    writer.cancel()


async def test_too_long_a_query_is_ignored_and_a_long_range_is_looked_up_in_parts(
    store: sql.SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, clock, slow = MemoryBus(), SystemClock(), GatedStore()
    slow.free.set()
    writer = asyncio.create_task(serve_store_queries(deps_with(bus, clock, slow)))
    await run_ready_tasks()
    async with bus.subscribe(StoreReply) as replies:
        await bus.publish(query("long", 0, LATEST_MS), query("short"))
        reply = await anext(replies)
    assert isinstance(reply, StoreReply)
    assert (reply.id, slow.lookups) == ("short", ["short"])
    writer.cancel()
    writer = asyncio.create_task(serve_store_queries(deps_with(bus, clock, store)))
    await run_ready_tasks()
    remote = RemoteStore(bus, clock)
    for part in (1, 3, 7):
        monkeypatch.setattr(remote_store, "MAX_QUERY_CANDLES", part)
        for span in ((FIRST, OPENINGS[-1]), (FIRST + 1, OPENINGS[-1] - 1), (OPENINGS[6], OPENINGS[4])):
            assert await remote.missing_ranges(SERIES, *span) == await store.missing_ranges(SERIES, *span)
            assert await remote.unconfirmed_ranges(SERIES, *span) == await store.unconfirmed_ranges(SERIES, *span)
    later = CandleGap(SERIES, OPENINGS[9], OPENINGS[9], FIRST)
    await store.save(later)
    assert await store.candle_gaps(CandleGapState.OPEN, SERIES, 1) == [later]
    assert await store.candle_gaps(CandleGapState.OPEN, SERIES, 5) == await store.candle_gaps(
        CandleGapState.OPEN, SERIES
    )
    writer.cancel()
    await remote.close()


async def test_no_query_is_sent_until_replies_can_be_received_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, clock, store = BreakingBus(), SystemClock(), GatedStore()
    store.free.set()
    writer = asyncio.create_task(serve_store_queries(deps_with(bus, clock, store)))
    await run_ready_tasks()
    remote = RemoteStore(bus, clock)
    monkeypatch.setattr(remote_store, "LOOKUP_TIMEOUT_SECONDS", 1)
    assert await remote.missing_ranges(SERIES, FIRST, FIRST) == [(FIRST, FIRST)]
    await run_ready_tasks()  # the subscription has ended
    again = asyncio.create_task(remote.missing_ranges(SERIES, FIRST, FIRST))
    await run_ready_tasks()
    bus.back.set()
    assert await again == [(FIRST, FIRST)]
    assert bus.subscriptions == 2
    writer.cancel()
    await remote.close()


async def test_reply_out_of_range_is_ignored() -> None:
    bus, clock = MemoryBus(), SystemClock()
    remote = RemoteStore(bus, clock)
    async with bus.subscribe(StoreQuery) as queries:
        lookup = asyncio.create_task(remote.missing_ranges(SERIES, FIRST, FIRST))
        sent = await anext(queries)
        assert isinstance(sent, StoreQuery)
        await bus.publish(*(StoreReply(sent.id, ranges=(run,)) for run in ((FIRST, -1), (FIRST, FIRST))))
        assert await lookup == [(FIRST, FIRST)]
    await remote.close()


async def test_remote_lookups_equal_those_of_the_writers_store(
    store: sql.SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, clock = MemoryBus(), SystemClock()
    deps = deps_with(bus, clock, store)
    remote = RemoteStore(bus, clock)
    monkeypatch.setattr(remote_store, "LOOKUP_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(Unavailable, match="the writer did not reply"):
        await remote.missing_ranges(SERIES, FIRST, OPENINGS[-1])
    monkeypatch.undo()
    writer = asyncio.create_task(serve_store_queries(deps))
    await run_ready_tasks()
    for span in ((FIRST, OPENINGS[-1]), (OPENINGS[1], OPENINGS[2]), (0, FIRST)):
        assert await remote.candles(SERIES, *span) == await store.candles(SERIES, *span)
        assert await remote.candles(SERIES, *span, 1) == await store.candles(SERIES, *span, 1)
        assert await remote.missing_ranges(SERIES, *span) == await store.missing_ranges(SERIES, *span)
        assert await remote.unconfirmed_ranges(SERIES, *span) == await store.unconfirmed_ranges(SERIES, *span)
    for state in (CandleGapState.OPEN, CandleGapState.ABSENT):
        assert len(await remote.candle_gaps(state, SERIES)) == 1
        assert await remote.candle_gaps(state, SERIES) == await store.candle_gaps(state, SERIES)
    writer.cancel()
    await remote.close()


def test_only_collectors_start_without_a_database(tmp_path: Path) -> None:
    for arguments in (("writer",), ("collector", "api"), (), ("migrate",), ("verify",)):
        ended = run_command(tmp_path, *arguments, DATABASE_URL="bus://")
        assert (ended.returncode, "bus:// is for collectors only" in ended.stderr) == (2, True), ended.stderr
