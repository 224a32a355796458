"""A collector without a database: the writer looks things up for it, over the bus."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from services.adapters import remote, sql
from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.adapters.remote import RemoteStore
from services.core.errors import Unavailable
from services.core.model import Bar, Candle, Hole, HoleState, Instrument, Origin, Series
from services.core.timeframes import MINUTE
from services.hub import Hub
from services.ports import Deps
from services.settings import Settings
from services.writer.lookups import answer_queries
from tests.system import command

SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")
FIRST, ONE = 1_700_000_040_000, Decimal("1.10")
OPENINGS = [FIRST + minute * MINUTE for minute in range(10)]


def candle(opening: int, origin: Origin) -> Candle:
    return Candle(SERIES, Bar(opening, ONE, ONE, ONE, ONE, ONE, ONE, 1), True, origin)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[sql.SqlStore]:
    url = f"sqlite+aiosqlite:///{tmp_path}/kurs.db"
    await sql.migrate(url)
    store = await sql.connect(url)
    await store.save(
        *(
            candle(opening, Origin.TICKS if place < 3 else Origin.EXCHANGE)
            for place, opening in enumerate(OPENINGS[:5])
        ),
        candle(OPENINGS[8], Origin.EXCHANGE),
        Hole(SERIES, OPENINGS[5], OPENINGS[6], FIRST),
        Hole(SERIES, OPENINGS[7], OPENINGS[7], FIRST, HoleState.ABSENT, FIRST),
        Hole(SERIES._replace(timeframe="5m"), FIRST, FIRST, FIRST),
    )
    yield store
    await store.close()


async def test_what_the_writer_looks_up_is_what_its_store_says(
    store: sql.SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, clock = MemoryBus(), SystemClock()
    settings = Settings(_env_file=None)
    deps = Deps(settings, clock, bus, MemoryCache(), store, Hub(clock), (), MemoryJournal())
    far = RemoteStore(bus)
    monkeypatch.setattr(remote, "SECONDS", 0.2)
    with pytest.raises(Unavailable, match="the writer does not reply"):
        await far.missing(SERIES, FIRST, OPENINGS[-1])
    monkeypatch.undo()
    writer = asyncio.create_task(answer_queries(deps))
    await asyncio.sleep(0)  # it listens
    for span in ((FIRST, OPENINGS[-1]), (OPENINGS[1], OPENINGS[2]), (0, FIRST)):
        assert await far.candles(SERIES, *span) == await store.candles(SERIES, *span)
        assert await far.candles(SERIES, *span, 1) == await store.candles(SERIES, *span, 1)
        assert await far.missing(SERIES, *span) == await store.missing(SERIES, *span)
        assert await far.unverified(SERIES, *span) == await store.unverified(SERIES, *span)
    for state in (HoleState.OPEN, HoleState.ABSENT):
        assert len(await far.holes(state, SERIES)) == 1
        assert await far.holes(state, SERIES) == await store.holes(state, SERIES)
    writer.cancel()
    await far.close()


def test_nothing_but_a_collector_works_without_a_database(tmp_path: Path) -> None:
    for words in (("writer",), ("collector", "api"), (), ("migrate",), ("verify",)):
        ended = command(tmp_path, *words, DATABASE_URL="bus://")
        assert (ended.returncode, "bus:// is for collectors alone" in ended.stderr) == (2, True), ended.stderr
