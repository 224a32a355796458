"""Migrations, on each database."""

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
    """Processes that migrate each URL on their standard input."""
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
    """Block migrations until the block ends, and yield a function that counts those that wait.

    On SQLite they are not blocked but race, and the function returns 4.
    """
    engine = make_engine(url)
    async with engine.connect() as connection, engine.connect() as observer:
        if engine.dialect.name == "postgresql":
            await connection.execute(text("CREATE TABLE alembic_version (version_num INT)"))

        async def waiting() -> int:
            if engine.dialect.name == "sqlite":
                return 4
            locked = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            async with observer.begin():  # one transaction would always see the same activity
                return int((await observer.execute(text(f"SELECT count(*) {locked}"))).scalar_one())

        yield waiting
        await connection.rollback()
    await engine.dispose()


async def test_concurrent_migrations_all_succeed(url: str, migrators: list[Migrator]) -> None:
    """All are released together, after each has found an empty database."""
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


async def test_candles_survive_the_migration_of_their_key(postgres: servers.Postgres) -> None:
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


async def test_migration_drops_rows_of_older_formulas(url: str) -> None:
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


async def test_migration_moves_candles_of_three_days_to_binances_grid(url: str) -> None:
    """Candles counted from the epoch are deleted, one on the grid stays, the others are rolled up from days."""

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
    query = text("SELECT indexdef FROM pg_indexes WHERE tablename = 'candles_2026'")
    async with engine.connect() as connection:
        return str((await connection.execute(query)).scalar_one())
