"""What is of one market is not there for the other: in the database, the cache, the journal and on the bus."""

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
from services.adapters.sql.migrate import HISTORY
from services.core.errors import Misconfigured
from services.core.journal import Entry
from services.core.markets import LIVE, SIMULATED, Market
from services.core.model import Bar, Candle, Gap, Instrument, Leg, Offer, Origin, Rate, Series, State
from services.ports import Bus
from tests import servers

BTC = Instrument("BTC", "USD")
SERIES = Series("binance", Instrument("BTC", "USDT"), "1m")
PRICE = Decimal("0.1")
CANDLE = Candle(SERIES, Bar(1_767_225_600_000, PRICE, PRICE, PRICE, PRICE, PRICE, PRICE, 1), True, Origin.EXCHANGE)
GAP = Gap("binance", 1, 2, "the connection was lost")


def rate(simulated: bool) -> Rate:
    leg = Leg("binance", BTC, PRICE, received=5, confirmed=5, expires=10, own=True)
    return Rate(BTC, 5, (Offer("binance", (leg,), PRICE),), simulated)


async def aged(url: str, simulated: bool) -> None:
    """A database as a version left it that kept both markets in the same place."""

    def back(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(HISTORY))
        command.downgrade(config, "0005")

    await sql.migrate(url)
    store, engine = await sql.connect(url), make_engine(url)
    await store.save(CANDLE, rate(simulated), GAP)
    async with engine.begin() as connection:
        await connection.run_sync(back)
    await store.close()
    await engine.dispose()


async def kept(url: str, market: Market) -> list[Candle]:
    await sql.migrate(url, market)
    store = await sql.connect(url, market)
    try:
        await store.check()
        return await store.candles(SERIES, 0, 2**62)
    finally:
        await store.close()


async def test_one_postgres_keeps_both_markets_apart(postgres: servers.Postgres) -> None:
    urls = {market: sql.address(url, market) for url in [postgres.create_database()] for market in (LIVE, SIMULATED)}
    for market, url in urls.items():
        await sql.migrate(url, market)
        assert await sql.kept(url) is None
    stores = {market: await sql.connect(url, market) for market, url in urls.items()}
    await stores[SIMULATED].save(CANDLE, GAP, rate(True))
    assert await sql.kept(urls[SIMULATED]) == SIMULATED
    assert await sql.kept(urls[LIVE]) is None
    assert await stores[SIMULATED].candles(SERIES, 0, 2**62) == [CANDLE]
    assert (await stores[LIVE].series(), await stores[LIVE].gaps(0, 9), await stores[LIVE].rates()) == ({}, [], [])
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


async def test_what_an_older_version_simulated_in_postgres_moves_to_its_market(postgres: servers.Postgres) -> None:
    for first in (LIVE, SIMULATED):
        url = postgres.create_database()
        await aged(url, simulated=True)
        await sql.migrate(sql.address(url, first), first)
        assert await kept(sql.address(url, LIVE), LIVE) == []
        assert await kept(sql.address(url, SIMULATED), SIMULATED) == [CANDLE]


async def test_what_an_older_version_kept_of_the_exchanges_stays(postgres: servers.Postgres) -> None:
    url = postgres.create_database()
    await aged(url, simulated=False)
    assert await kept(sql.address(url, SIMULATED), SIMULATED) == []
    assert await kept(url, LIVE) == [CANDLE]


@pytest.mark.parametrize("old", [False, True])
async def test_a_database_of_the_other_market_is_refused_and_says_what_to_do(url: str, old: bool) -> None:
    if old and url.startswith("postgresql"):
        pytest.skip("there it moves")
    if old:
        await aged(url, simulated=True)
    else:
        await sql.migrate(url, SIMULATED)
    with pytest.raises(Misconfigured, match=r"holds the simulated market.*KURS_MARKET=simulated"):
        await sql.migrate(url, LIVE)
    assert await kept(url, SIMULATED) == [CANDLE] * old


async def test_a_file_in_which_an_older_version_simulated_a_market_becomes_the_simulated_ones(tmp_path: Path) -> None:
    live, simulated = tmp_path / "kurs.db", tmp_path / "kurs-simulated.db"
    await aged(f"sqlite+aiosqlite:///{live}", simulated=True)
    with closing(sqlite3.connect(live)) as reader:
        reader.execute("SELECT * FROM rates").fetchone()
        with pytest.raises(Misconfigured, match="cannot be moved"):
            sql.separate(live, simulated)
    sql.separate(live, simulated)
    assert await kept(f"sqlite+aiosqlite:///{simulated}", SIMULATED) == [CANDLE]
    assert await kept(f"sqlite+aiosqlite:///{live}", LIVE) == []
    sql.separate(live, simulated)
    assert live.exists()


async def test_one_redis_keeps_both_markets_apart(redis: servers.Server) -> None:
    caches = {market: RedisCache(redis.url, market) for market in (LIVE, SIMULATED)}
    journals = {market: RedisJournal(redis.url, market=market) for market in (LIVE, SIMULATED)}
    state = State("market-test", 5, True, "socket", "", "", 5, 5, 0, simulated=True)
    await caches[SIMULATED].put(state)
    await caches[SIMULATED].set("market-test", b"simulated", 60)
    await journals[SIMULATED].append(Entry("market-test", 3001, 0, "", "{}", 3))
    assert state in await caches[SIMULATED].states()
    assert state not in await caches[LIVE].states()
    assert await caches[LIVE].get("market-test") == [None]
    await caches[LIVE].drop("market-test")
    assert await caches[SIMULATED].get("market-test") == [b"simulated"]
    assert await caches[SIMULATED].count("market-test", 60, {"a": 2}) == {"a": 2}
    assert await caches[LIVE].count("market-test", 60, {"a": 3}) == {"a": 3}
    assert await journals[LIVE].newest("market-test") == [None]
    assert await journals[SIMULATED].after("market-test", 0, 5) == [Entry("market-test", 3001, 0, "", "{}", 3)]
    for market in (LIVE, SIMULATED):
        await caches[market].close()
        await journals[market].close()


async def test_what_an_older_version_left_in_redis_is_not_taken_for_live(redis: servers.Server) -> None:
    cache = RedisCache(redis.url, LIVE)
    state = State("market-older", 5, True, "socket", "", "", 5, 5, 0, simulated=True)
    await cache.put(state)  # as that version did
    assert state not in await cache.states()
    await cache.close()


async def test_one_broker_keeps_both_markets_apart(rabbit: servers.Rabbit) -> None:
    buses = {market: await connected(rabbit, market) for market in (LIVE, SIMULATED)}
    try:
        async with buses[LIVE].live(Gap) as live, buses[SIMULATED].live(Gap) as simulated:
            await buses[SIMULATED].publish(GAP)
            assert await asyncio.wait_for(anext(aiter(simulated)), 10) == GAP
            await buses[LIVE].publish(Gap("binance", 3, 4, "live"))
            first = await asyncio.wait_for(anext(aiter(live)), 10)
            assert isinstance(first, Gap)
            assert first.reason == "live"
        assert await settled(buses[SIMULATED]) == ["the connection was lost"]
        assert await settled(buses[LIVE]) == ["live"]
    finally:
        for bus in buses.values():
            await bus.close()


async def connected(server: servers.Rabbit, market: Market) -> Bus:
    return await connect(server.url, {"market-test": (Gap,)}, 3, market)


async def settled(bus: Bus) -> list[str]:
    async with bus.work("market-test", Gap) as batches, asyncio.timeout(10):
        async for batch in batches:
            return [gap.reason for gap in batch if isinstance(gap, Gap)]
    return []
