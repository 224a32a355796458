"""The two markets are separate in the database, the cache, the journal and on the bus."""

import asyncio
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from services.adapters import sql
from services.adapters.rabbit import connect
from services.adapters.redis import RedisCache, RedisJournal
from services.adapters.sql.engine import make_engine
from services.adapters.sql.migrate import MIGRATIONS_DIR
from services.core.errors import Misconfigured
from services.core.journal import JournalEntry
from services.core.markets import LIVE, SIMULATED, Market
from services.core.model import (
    Bar,
    Candle,
    CandleSource,
    ExchangeStatus,
    FeedGap,
    Instrument,
    Leg,
    Rate,
    RateCandidate,
    Series,
)
from services.core.times import FAR_FUTURE
from services.ports import Bus
from tests import servers

BTC = Instrument("BTC", "USD")
SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")
PRICE = Decimal("0.1")
CANDLE = Candle(
    SERIES, Bar(1_767_225_600_000, PRICE, PRICE, PRICE, PRICE, PRICE, PRICE, 1), True, CandleSource.EXCHANGE
)
GAP = FeedGap("binance", 1, 2, "the connection was lost")


def rate(simulated: bool) -> Rate:
    leg = Leg("binance", BTC, PRICE, received=5, confirmed=5, expires=10, own=True)
    return Rate(BTC, 5, (RateCandidate("binance", (leg,), PRICE),), simulated)


async def create_old_database(url: str, simulated: bool) -> None:
    """Create a database as of a version that stored both markets in the same tables."""

    def back(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS_DIR))
        command.downgrade(config, "0005")

    await sql.migrate(url)
    store, engine = await sql.connect(url), make_engine(url)
    await store.save(CANDLE, rate(simulated), GAP)
    async with engine.begin() as connection:
        await connection.run_sync(back)
    await store.close()
    await engine.dispose()


async def stored_candles(url: str, market: Market) -> list[Candle]:
    await sql.migrate(url, market)
    store = await sql.connect(url, market)
    try:
        await store.check()
        return await store.candles(SERIES, 0, FAR_FUTURE)
    finally:
        await store.close()


async def test_markets_are_separate_in_postgres(postgres: servers.Postgres) -> None:
    urls = {market: sql.market_url(url, market) for url in [postgres.create_database()] for market in (LIVE, SIMULATED)}
    for market, url in urls.items():
        await sql.migrate(url, market)
        assert await sql.stored_market(url) is None
    stores = {market: await sql.connect(url, market) for market, url in urls.items()}
    await stores[SIMULATED].save(CANDLE, GAP, rate(True))
    assert await sql.stored_market(urls[SIMULATED]) == SIMULATED
    assert await sql.stored_market(urls[LIVE]) is None
    assert await stores[SIMULATED].candles(SERIES, 0, FAR_FUTURE) == [CANDLE]
    assert (await stores[LIVE].series(), await stores[LIVE].feed_gaps(0, 9), await stores[LIVE].rates()) == ({}, [], [])
    assert (await stores[LIVE].coverage(SERIES, 0, 1_767_225_600_000)).present == 0
    engine = make_engine(urls[SIMULATED])
    async with engine.connect() as connection:
        years = text("SELECT count(*) FROM pg_tables WHERE schemaname = 'simulated' AND tablename LIKE 'candles_2%'")
        assert await connection.scalar(years) == await connection.scalar(
            text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'candles_2%'")
        )
    await engine.dispose()
    for store in stores.values():
        await store.close()


async def test_old_simulated_postgres_data_moves_to_the_simulated_market(postgres: servers.Postgres) -> None:
    for first in (LIVE, SIMULATED):
        url = postgres.create_database()
        await create_old_database(url, simulated=True)
        await sql.migrate(sql.market_url(url, first), first)
        assert await stored_candles(sql.market_url(url, LIVE), LIVE) == []
        assert await stored_candles(sql.market_url(url, SIMULATED), SIMULATED) == [CANDLE]


async def test_old_live_data_stays_in_the_live_market(postgres: servers.Postgres) -> None:
    url = postgres.create_database()
    await create_old_database(url, simulated=False)
    assert await stored_candles(sql.market_url(url, SIMULATED), SIMULATED) == []
    assert await stored_candles(url, LIVE) == [CANDLE]


@pytest.mark.parametrize("old", [False, True])
async def test_database_of_the_other_market_is_refused_with_advice(url: str, old: bool) -> None:
    if old and url.startswith("postgresql"):
        pytest.skip("PostgreSQL moves it to its market")
    if old:
        await create_old_database(url, simulated=True)
    else:
        await sql.migrate(url, SIMULATED)
    with pytest.raises(Misconfigured, match=r"holds the simulated market.*KURS_MARKET=simulated"):
        await sql.migrate(url, LIVE)
    assert await stored_candles(url, SIMULATED) == [CANDLE] * old


async def test_old_simulated_sqlite_file_becomes_the_simulated_markets(tmp_path: Path) -> None:
    live, simulated = tmp_path / "kurs.db", tmp_path / "kurs-simulated.db"
    await create_old_database(f"sqlite+aiosqlite:///{live}", simulated=True)
    with closing(sqlite3.connect(live)) as reader:
        reader.execute("SELECT * FROM rates").fetchone()
        with pytest.raises(Misconfigured, match="cannot be moved"):
            sql.move_simulated_file(live, simulated)
    sql.move_simulated_file(live, simulated)
    assert await stored_candles(f"sqlite+aiosqlite:///{simulated}", SIMULATED) == [CANDLE]
    assert await stored_candles(f"sqlite+aiosqlite:///{live}", LIVE) == []
    sql.move_simulated_file(live, simulated)
    assert live.exists()


async def test_markets_are_separate_in_redis(redis: servers.Server) -> None:
    caches = {market: RedisCache(redis.url, market) for market in (LIVE, SIMULATED)}
    journals = {market: RedisJournal(redis.url, market=market) for market in (LIVE, SIMULATED)}
    state = ExchangeStatus("market-test", 5, True, "socket", "", "", 5, 5, 0, simulated=True)
    await caches[SIMULATED].put_latest(state)
    await caches[SIMULATED].set("market-test", b"simulated", 60)
    await journals[SIMULATED].append(JournalEntry("market-test", 3001, 0, "", "{}", 3))
    assert state in await caches[SIMULATED].exchange_statuses()
    assert state not in await caches[LIVE].exchange_statuses()
    assert await caches[LIVE].get("market-test") == [None]
    await caches[LIVE].delete("market-test")
    assert await caches[SIMULATED].get("market-test") == [b"simulated"]
    assert await caches[SIMULATED].increment("market-test", 60, {"a": 2}) == {"a": 2}
    assert await caches[LIVE].increment("market-test", 60, {"a": 3}) == {"a": 3}
    assert await journals[LIVE].latest("market-test") == [None]
    assert await journals[SIMULATED].read_after("market-test", 0, 5) == [
        JournalEntry("market-test", 3001, 0, "", "{}", 3)
    ]
    for market in (LIVE, SIMULATED):
        await caches[market].close()
        await journals[market].close()


async def test_simulated_values_of_older_versions_are_not_read_as_live(redis: servers.Server) -> None:
    cache = RedisCache(redis.url, LIVE)
    state = ExchangeStatus("market-older", 5, True, "socket", "", "", 5, 5, 0, simulated=True)
    await cache.put_latest(state)  # as an older version did
    assert state not in await cache.exchange_statuses()
    await cache.close()


async def test_markets_are_separate_in_rabbitmq(rabbit: servers.Rabbit) -> None:
    buses = {market: await open_bus(rabbit, market) for market in (LIVE, SIMULATED)}
    try:
        async with buses[LIVE].subscribe(FeedGap) as live, buses[SIMULATED].subscribe(FeedGap) as simulated:
            await buses[SIMULATED].publish(GAP)
            assert await asyncio.wait_for(anext(aiter(simulated)), 30) == GAP
            await buses[LIVE].publish(FeedGap("binance", 3, 4, "live"))
            first = await asyncio.wait_for(anext(aiter(live)), 30)
            assert isinstance(first, FeedGap)
            assert first.reason == "live"
        assert await consume_reasons(buses[SIMULATED]) == ["the connection was lost"]
        assert await consume_reasons(buses[LIVE]) == ["live"]
    finally:
        for bus in buses.values():
            await bus.close()


async def open_bus(server: servers.Rabbit, market: Market) -> Bus:
    return await connect(server.url, {"market-test": (FeedGap,)}, 3, market)


async def consume_reasons(bus: Bus) -> list[str]:
    async with bus.consume("market-test", FeedGap) as batches, asyncio.timeout(30):
        async for batch in batches:
            return [gap.reason for gap in batch if isinstance(gap, FeedGap)]
    return []
