"""How the tables come to be, on either database."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.adapters import sql
from services.adapters.sql.engine import make_engine
from services.adapters.sql.migrate import MIGRATIONS_DIR
from services.adapters.sql.partitions import include_name
from services.adapters.sql.tables import metadata
from services.core.analysis import Analysis, Trend, TrendDirection
from services.core.model import Bar, Candle, CandleGap, CandleGapState, CandleSource, IndicatorValue, Instrument, Series
from services.core.seals import Seal
from services.core.timeframes import DAY_MS
from services.core.times import FAR_FUTURE
from tests import servers

MIGRATOR = """
import asyncio, sys
from services.adapters.sql import migrate
print("ready", flush=True)
for url in sys.stdin:
    asyncio.run(migrate(url.strip()))
    print("done", flush=True)
"""
Migrator = tuple[asyncio.StreamWriter, asyncio.StreamReader]


@pytest.fixture(scope="module")
async def migrators() -> AsyncIterator[list[Migrator]]:
    """Processes that migrate the URLs that they are given."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-c", MIGRATOR)
    processes = [await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(4)]
    found = [(process.stdin, process.stdout) for process in processes if process.stdin and process.stdout]
    assert await migrate_all(found) == ["ready"] * 4
    yield found
    for writer, _ in found:
        writer.close()
    assert [await process.wait() for process in processes] == [0] * 4


async def migrate_all(migrators: list[Migrator]) -> list[str]:
    async with asyncio.timeout(60):
        return [(await reader.readline()).decode().strip() for _, reader in migrators]


@asynccontextmanager
async def block_migrations(url: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Holds up who migrates, at latest when they write; tells how many wait. SQLite cannot tell, and lets them race."""
    engine = make_engine(url)
    async with engine.connect() as connection, engine.connect() as observer:
        if engine.dialect.name == "postgresql":
            await connection.execute(text("CREATE TABLE alembic_version (version_num INT)"))

        async def waiting() -> int:
            if engine.dialect.name == "sqlite":
                return 4
            locked = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            async with observer.begin():  # a transaction would see the same activity again and again
                return int((await observer.execute(text(f"SELECT count(*) {locked}"))).scalar_one())

        yield waiting
        await connection.rollback()
    await engine.dispose()


async def test_many_may_migrate_at_once(url: str, migrators: list[Migrator]) -> None:
    """All are let go at the same moment, when each has found that nothing was done yet."""
    async with block_migrations(url) as waiting:
        for writer, _ in migrators:
            writer.write(f"{url}\n".encode())
        async with asyncio.timeout(60):
            while await waiting() < 4:
                await asyncio.sleep(0.02)
    assert await migrate_all(migrators) == ["done"] * 4


async def test_migrations_create_the_schema_of_the_code(url: str) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection, opts={"include_name": include_name}), metadata)

    await sql.migrate(url)
    engine = make_engine(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_candles_stay_while_their_key_is_made_anew(postgres: servers.Postgres) -> None:
    def back(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS_DIR))
        command.downgrade(config, "0003")

    url = postgres.create_database()
    await sql.migrate(url)
    store, engine = await sql.connect(url), make_engine(url)
    series = Series("binance", Instrument("BTC", "USDT"), "1m")
    price, newest = Decimal("0.1"), 1_767_225_600_000 + 200 * 60_000
    bars = [Bar(newest - back * 60_000, price, price, price, price, price, price, 1) for back in range(200)][::-1]
    candles = [Candle(series, bar, True, CandleSource.TRADES) for bar in bars]
    await store.save(*candles[:150])
    async with engine.begin() as connection:
        await connection.run_sync(back)
    assert "INCLUDE" in await _key(engine)
    assert await store.candles(series, 0, newest) == candles[:150]

    await sql.migrate(url)
    assert "INCLUDE" not in await _key(engine)
    assert await store.candles(series, 0, newest) == candles[:150]
    await store.save(*candles)
    assert await store.candles(series, 0, newest) == candles
    await store.close()
    await engine.dispose()


def migrated(connection: Connection, step: str) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS_DIR))
    (command.upgrade if step == "head" else command.downgrade)(config, step)


async def test_rows_by_older_formulas_are_dropped(url: str) -> None:
    await sql.migrate(url)
    store, engine = await sql.connect(url), make_engine(url)
    series = Series("binance", Instrument("BTC", "USDT"), "1h")
    async with engine.begin() as connection:
        await connection.run_sync(migrated, "0007")
    await store.save(
        IndicatorValue(series, "psar:0.02:0.2", 0, {"psar": 0.2596}, True),
        Analysis(series, 0, 1.0, 1, Trend(TrendDirection.UP, 41, ())),
    )
    async with engine.begin() as connection:
        await connection.run_sync(migrated, "head")
    assert (await store.indicator_values(series, 0, FAR_FUTURE), await store.analyses(series, 0, FAR_FUTURE)) == (
        [],
        [],
    )
    await store.close()
    await engine.dispose()


async def test_candles_of_three_days_move_to_binances_grid(url: str) -> None:
    """Those counted from the epoch go, one on the grid stays, and whole days make the others."""

    def bar(opening: int, number: int) -> Bar:
        low, high = Decimal(number), Decimal(number) + Decimal("0.5")
        return Bar(opening, low, high, low, high, Decimal("0.1"), Decimal(2), 3)

    await sql.migrate(url)
    store, engine = await sql.connect(url), make_engine(url)
    daily, days = Series("binance", Instrument("BTC", "USDT"), "1d"), Series("binance", Instrument("BTC", "USDT"), "3d")
    first = 17_395 * DAY_MS  # 2017-08-17, which is on the grid
    async with engine.begin() as connection:
        await connection.run_sync(migrated, "0004")
    await store.save(*(Candle(daily, bar(first + at * DAY_MS, at), True, CandleSource.IMPORT) for at in range(8)))
    own = Candle(days, bar(first, 40), True, CandleSource.EXCHANGE)
    await store.save(
        own, *(Candle(days, bar(first + (3 * at - 1) * DAY_MS, at), True, CandleSource.ROLLUP) for at in range(3))
    )
    await store.save(CandleGap(days, first - DAY_MS, first - DAY_MS, first), Seal(days, first, 1, "digest", "", first))
    async with engine.begin() as connection:
        await connection.run_sync(migrated, "head")

    rolled = Bar(
        first + 3 * DAY_MS, Decimal(3), Decimal("5.5"), Decimal(3), Decimal("5.5"), Decimal("0.3"), Decimal(6), 9
    )
    assert await store.candles(days, 0, FAR_FUTURE) == [own, Candle(days, rolled, True, CandleSource.ROLLUP)]
    assert (await store.candle_gaps(CandleGapState.OPEN), await store.seals(days, 0, FAR_FUTURE)) == ([], [])
    assert len(await store.candles(daily, 0, FAR_FUTURE)) == 8
    await store.close()
    await engine.dispose()


async def _key(engine: AsyncEngine) -> str:
    question = text("SELECT indexdef FROM pg_indexes WHERE tablename = 'candles_2026'")
    async with engine.connect() as connection:
        return str((await connection.execute(question)).scalar_one())
