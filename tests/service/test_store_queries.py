"""A collector without a database: the writer looks things up for it, over the bus."""

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
    """One whose time does not pass by itself."""

    time = 0

    def monotonic(self) -> int:
        return self.time


class GatedStore(MemoryStore):
    """One whose lookups end when they may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.free = asyncio.Event()

    async def missing_ranges(self, series: Series, since: int, until: int) -> list[tuple[int, int]]:
        self.asked.append(series.exchange)
        await self.free.wait()
        return [(since, until)]


class BreakingBus(MemoryBus):
    """One on which who listens to replies loses the line after the first, and has none again until `back`."""

    def __init__(self) -> None:
        super().__init__()
        self.back, self.lines = asyncio.Event(), 0

    @asynccontextmanager
    async def subscribe(self, *kinds: type[Message]) -> AsyncIterator[AsyncIterator[Message]]:
        if StoreReply not in kinds:
            async with super().subscribe(*kinds) as messages:
                yield messages
            return
        self.lines += 1
        if self.lines > 1:
            await self.back.wait()
        async with super().subscribe(*kinds) as messages, aclosing(self._some(messages)) as some:
            yield some

    async def _some(self, messages: AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        async for message in messages:
            yield message
            if self.lines == 1:
                return


def deps_around(bus: Bus, clock: Clock, store: CandleReader) -> Deps:
    return make_deps(clock=clock, bus=bus, store=cast("Store", store))


async def run_ready_tasks() -> None:
    """Until every task of this test has come as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


def query(exchange: str, since: int = FIRST, until: int = FIRST) -> StoreQuery:
    return StoreQuery(exchange, StoreLookup.MISSING, SERIES._replace(exchange=exchange), since, until, 1)


async def test_a_query_whose_sender_has_given_up_is_not_looked_up() -> None:
    bus, clock, store = MemoryBus(), MonotonicManualClock(), GatedStore()
    writer = asyncio.create_task(serve_store_queries(deps_around(bus, clock, store)))
    await run_ready_tasks()
    await bus.publish(query("slow"), query("stale"))
    await run_ready_tasks()
    clock.time += LOOKUP_TIMEOUT_SECONDS * 1000
    await bus.publish(query("fresh"))
    await run_ready_tasks()
    async with bus.subscribe(StoreReply) as replies:
        store.free.set()
        ids = [(await anext(replies)).id for _ in range(2)]  # type: ignore[union-attr]
    assert store.asked == ids == ["slow", "fresh"]
    writer.cancel()


async def test_more_than_a_year_of_minutes_is_looked_through_in_parts(
    store: sql.SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, clock, slow = MemoryBus(), SystemClock(), GatedStore()
    slow.free.set()
    writer = asyncio.create_task(serve_store_queries(deps_around(bus, clock, slow)))
    await run_ready_tasks()
    async with bus.subscribe(StoreReply) as replies:
        await bus.publish(query("long", 0, LATEST_MS), query("short"))
        reply = await anext(replies)
    assert isinstance(reply, StoreReply)
    assert (reply.id, slow.asked) == ("short", ["short"])
    writer.cancel()
    writer = asyncio.create_task(serve_store_queries(deps_around(bus, clock, store)))
    await run_ready_tasks()
    far = RemoteStore(bus, clock)
    for part in (1, 3, 7):
        monkeypatch.setattr(remote_store, "MAX_QUERY_CANDLES", part)
        for span in ((FIRST, OPENINGS[-1]), (FIRST + 1, OPENINGS[-1] - 1), (OPENINGS[6], OPENINGS[4])):
            assert await far.missing_ranges(SERIES, *span) == await store.missing_ranges(SERIES, *span)
            assert await far.unconfirmed_ranges(SERIES, *span) == await store.unconfirmed_ranges(SERIES, *span)
    later = CandleGap(SERIES, OPENINGS[9], OPENINGS[9], FIRST)
    await store.save(later)
    assert await store.candle_gaps(CandleGapState.OPEN, SERIES, 1) == [later]
    assert await store.candle_gaps(CandleGapState.OPEN, SERIES, 5) == await store.candle_gaps(
        CandleGapState.OPEN, SERIES
    )
    writer.cancel()
    await far.close()


async def test_no_query_is_sent_before_replies_can_arrive_after_a_disconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, clock, store = BreakingBus(), SystemClock(), GatedStore()
    store.free.set()
    writer = asyncio.create_task(serve_store_queries(deps_around(bus, clock, store)))
    await run_ready_tasks()
    far = RemoteStore(bus, clock)
    monkeypatch.setattr(remote_store, "LOOKUP_TIMEOUT_SECONDS", 1)
    assert await far.missing_ranges(SERIES, FIRST, FIRST) == [(FIRST, FIRST)]
    await run_ready_tasks()  # the line is lost
    again = asyncio.create_task(far.missing_ranges(SERIES, FIRST, FIRST))
    await run_ready_tasks()
    bus.back.set()
    assert await again == [(FIRST, FIRST)]
    assert bus.lines == 2
    writer.cancel()
    await far.close()


async def test_a_reply_out_of_range_is_passed_over() -> None:
    bus, clock = MemoryBus(), SystemClock()
    far = RemoteStore(bus, clock)
    async with bus.subscribe(StoreQuery) as queries:
        looking = asyncio.create_task(far.missing_ranges(SERIES, FIRST, FIRST))
        asked = await anext(queries)
        assert isinstance(asked, StoreQuery)
        await bus.publish(*(StoreReply(asked.id, ranges=(run,)) for run in ((FIRST, -1), (FIRST, FIRST))))
        assert await looking == [(FIRST, FIRST)]
    await far.close()


async def test_remote_lookups_equal_those_of_the_writers_store(
    store: sql.SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, clock = MemoryBus(), SystemClock()
    deps = deps_around(bus, clock, store)
    far = RemoteStore(bus, clock)
    monkeypatch.setattr(remote_store, "LOOKUP_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(Unavailable, match="the writer did not reply"):
        await far.missing_ranges(SERIES, FIRST, OPENINGS[-1])
    monkeypatch.undo()
    writer = asyncio.create_task(serve_store_queries(deps))
    await asyncio.sleep(0)  # it listens
    for span in ((FIRST, OPENINGS[-1]), (OPENINGS[1], OPENINGS[2]), (0, FIRST)):
        assert await far.candles(SERIES, *span) == await store.candles(SERIES, *span)
        assert await far.candles(SERIES, *span, 1) == await store.candles(SERIES, *span, 1)
        assert await far.missing_ranges(SERIES, *span) == await store.missing_ranges(SERIES, *span)
        assert await far.unconfirmed_ranges(SERIES, *span) == await store.unconfirmed_ranges(SERIES, *span)
    for state in (CandleGapState.OPEN, CandleGapState.ABSENT):
        assert len(await far.candle_gaps(state, SERIES)) == 1
        assert await far.candle_gaps(state, SERIES) == await store.candle_gaps(state, SERIES)
    writer.cancel()
    await far.close()


def test_nothing_but_a_collector_works_without_a_database(tmp_path: Path) -> None:
    for words in (("writer",), ("collector", "api"), (), ("migrate",), ("verify",)):
        ended = run_command(tmp_path, *words, DATABASE_URL="bus://")
        assert (ended.returncode, "bus:// is for collectors only" in ended.stderr) == (2, True), ended.stderr
