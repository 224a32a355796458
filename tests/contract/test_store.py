"""The contract of the store for rates, feed gaps and dead letters, and its errors on each database."""

import asyncio
import itertools
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text

from services.adapters import sql
from services.adapters.sql.engine import make_engine
from services.core.dead_letters import MAX_DEAD_LETTERS, DeadLetter, DeadLetterCause
from services.core.errors import Unavailable
from services.core.minute_builder import TradeCursor
from services.core.model import (
    Bar,
    Candle,
    CandleGap,
    CandleSource,
    FeedGap,
    Instrument,
    Leg,
    Rate,
    RateCandidate,
    Series,
)
from services.core.timeframes import MINUTE_MS
from services.core.times import FAR_FUTURE
from services.core.trading_rules import TradingRules
from services.ports import Store
from tests import servers
from tests.api import candle

BTC, ETH = Instrument("BTC", "USD"), Instrument("ETH", "RUB")
numbers = itertools.count()


def rate(direction: Instrument, time: int, value: Decimal = Decimal("54000.000123")) -> Rate:
    leg = Leg("binance", direction, value, received=time, confirmed=time, expires=time + 5, own=True)
    return Rate(direction, time, (RateCandidate("binance", (leg,), value),))


def gap(since: int, until: int, instrument: Instrument | None = None, exchange: str = "binance") -> FeedGap:
    return FeedGap(exchange, since, until, "the connection was lost", instrument)


async def test_empty_store_returns_nothing(store: Store) -> None:
    assert (await store.rates(), await store.feed_gaps(0, FAR_FUTURE)) == ([], [])
    await store.save()
    await store.ping()


async def test_newest_rate_of_each_direction_is_stored(store: Store) -> None:
    await store.save(rate(BTC, 5), rate(ETH, 1), rate(BTC, 7), rate(BTC, 6))
    await store.save(rate(BTC, 3), rate(ETH, 2))
    assert await store.rates() == [rate(BTC, 7), rate(ETH, 2)]


async def test_rate_from_the_future_is_replaced_and_replaces_none(store: Store) -> None:
    now, day = time.time_ns() // 1_000_000, 86_400_000
    await store.save(rate(BTC, now + day), rate(ETH, now))
    await store.save(rate(BTC, now), rate(ETH, now + day))
    assert await store.rates() == [rate(BTC, now), rate(ETH, now)]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.decimals(allow_nan=False, allow_infinity=False), time=st.integers(0, 2**63 - 1))
async def test_stored_rate_keeps_every_digit(store: Store, value: Decimal, time: int) -> None:
    direction = Instrument("BTC", f"X{next(numbers)}")  # a hash of them would repeat: hash(2**61 - 1) == 0
    await store.save(rate(direction, time, value))
    (stored,) = [stored for stored in await store.rates() if stored.direction == direction]
    assert stored == rate(direction, time, value)
    assert str(stored.candidates[0].value) == str(value)


async def test_feed_gap_is_saved_once_and_found_by_overlap(store: Store) -> None:
    gaps = [
        gap(10, 20),
        gap(10, 20, BTC),
        gap(15, 30, Instrument("BTC", "USD", "PERPETUAL")),
        gap(40, 50, BTC, "deribit"),
    ]
    await asyncio.gather(*(store.save(*gaps, *gaps) for _ in range(4)))
    await store.save(gap(10, 20))
    assert await store.feed_gaps(0, 100) == gaps
    assert await store.feed_gaps(20, 40) == gaps
    assert await store.feed_gaps(21, 39) == gaps[2:3]
    assert await store.feed_gaps(31, 39) == []


async def test_failed_save_stores_no_item(sql_store: Store) -> None:
    with pytest.raises(Exception, match=r"(?i)null"):
        await sql_store.save(rate(BTC, 1), gap(1, None))  # type: ignore[arg-type]
    assert await sql_store.rates() == []


async def test_concurrent_writers_leave_the_newest_rates(store: Store) -> None:
    writers = [[rate(BTC, time), rate(ETH, 100 - time)] for time in range(100)]
    await asyncio.gather(*(store.save(*rates) for rates in writers))
    assert await store.rates() == [rate(BTC, 99), rate(ETH, 100)]


async def test_rate_of_another_version_is_skipped(sql_store: sql.SqlStore) -> None:
    await sql_store.save(rate(BTC, 1), rate(ETH, 1))
    async with sql_store._engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE rates SET body = '{}' WHERE direction = 'BTC-USD'")
    assert await sql_store.rates() == [rate(ETH, 1)]


async def test_postgres_is_reconnected_after_a_restart_and_unavailable_while_down(
    postgres: servers.Postgres,
) -> None:
    url = postgres.create_database()
    await sql.migrate(url)
    store = await sql.connect(url)
    try:
        await asyncio.gather(*(store.save(rate(BTC, time)) for time in range(5)))
        await asyncio.to_thread(postgres.restart)
        await asyncio.gather(*(store.save(rate(BTC, time)) for time in range(5, 10)))
        await asyncio.to_thread(postgres.kill)
        for call in (store.ping(), store.rates(), store.feed_gaps(0, 1), store.save(rate(BTC, 11))):
            with pytest.raises(Unavailable, match="database"):
                await asyncio.wait_for(call, 60)
        await asyncio.to_thread(postgres.start)
        assert await store.rates() == [rate(BTC, 9)]
    finally:
        if not postgres.process:
            await asyncio.to_thread(postgres.start)
        await store.close()


async def test_hanging_postgres_is_unavailable_until_it_continues(postgres: servers.Postgres) -> None:
    url = postgres.create_database()
    await sql.migrate(url)
    store = sql.SqlStore(make_engine(url, seconds=1))
    await store.ping()
    postgres.pause()
    try:
        with pytest.raises(Unavailable, match="database"):
            await asyncio.wait_for(store.rates(), 60)
    finally:
        postgres.resume()
    assert await store.rates() == []
    await store.close()


async def execute(url: str, *statements: str) -> None:
    engine = make_engine(url)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def test_check_writable_fails_on_a_read_only_database(url: str) -> None:
    """In a process that has saved nothing yet, and in one that has."""
    await sql.migrate(url)
    before = await sql.connect(url)
    await before.check_writable()
    await before.save(rate(BTC, 1))
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite+aiosqlite:///")
        later = await sql.connect(f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true")
    else:
        await execute(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
        later = await sql.connect(url)
    await later.ping()
    with pytest.raises(Unavailable, match=r"read-?only"):
        await later.check_writable()
    with pytest.raises(Unavailable, match=r"read-?only"):
        await later.save(rate(BTC, 2))
    with pytest.raises(Unavailable, match=r"rates could not be saved .*read-?only"):
        await later.check_writable()
    for store in (before, later):
        await store.close()


async def test_check_writable_fails_while_one_kind_cannot_be_saved(url: str) -> None:
    await sql.migrate(url)
    store = await sql.connect(url)
    if url.startswith("sqlite"):
        body = "BEGIN SELECT RAISE(ABORT, 'poison'); END"
        await execute(url, f"CREATE TRIGGER poison BEFORE INSERT ON gaps {body}")
        repair = "DROP TRIGGER poison"
    else:
        await execute(url, "ALTER TABLE gaps ADD CONSTRAINT poison CHECK (since < 0)")
        repair = "ALTER TABLE gaps DROP CONSTRAINT poison"
    with pytest.raises(Exception, match="poison"):
        await store.save(gap(1, 2))
    await store.save(rate(BTC, 1))
    with pytest.raises(Unavailable, match=r"gaps could not be saved .*poison"):
        await store.check_writable()
    await execute(url, repair)
    await store.save(gap(1, 2))
    await store.check_writable()
    await store.close()


async def test_migration_waits_store_fails_and_neither_shows_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = f"postgresql+asyncpg://kurs:a-secret@127.0.0.1:{servers.free_port()}/kurs"
    store = await sql.connect(url)
    with pytest.raises(Unavailable) as refused:
        await store.ping()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sql.migrate(url), 2)
    assert "a-secret" not in caplog.text + str(refused.value)
    assert "postgresql" in caplog.text
    await store.close()


ONE = Decimal(1)
BAR = Bar(1_704_067_200_000, ONE, ONE, ONE, ONE, ONE, ONE, 1)
MINUTES = Series("x", Instrument("BTC", "USDT"), "1m")
IMPOSSIBLE: dict[str, TradeCursor | Candle | CandleGap | FeedGap] = {
    "a number beyond 64 bits": TradeCursor(MINUTES, 2**63, 1, 1),
    "a count beyond 64 bits": Candle(MINUTES, replace(BAR, trades=2**63), True, CandleSource.TRADES),
    "a time beyond 64 bits": CandleGap(MINUTES, 2**64, 2**65, 1),
    "text that is no Unicode": gap(1, 2, Instrument("\ud800", "USD")),
    "NUL in text": gap(1, 2, Instrument("B\0", "USD")),
    "NUL in a candle's symbol": Candle(MINUTES._replace(exchange="\0"), BAR, True, CandleSource.TRADES),
    "a price beyond every database": Candle(
        MINUTES, replace(BAR, close=Decimal("1e200000")), True, CandleSource.TRADES
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
async def test_item_that_no_database_can_store_does_not_raise_unavailable(store: Store, name: str) -> None:
    item = IMPOSSIBLE[name]
    (outcome,) = await asyncio.gather(store.save(item, gap(5, 6)), return_exceptions=True)
    assert not isinstance(outcome, Unavailable), outcome
    assert outcome is None or await store.feed_gaps(0, 10) == []
    await store.save(gap(7, 8))
    assert gap(7, 8) in await store.feed_gaps(7, 8)


async def test_saving_to_a_read_only_database_raises_unavailable(postgres: servers.Postgres, tmp_path: Path) -> None:
    url = postgres.create_database()
    await sql.migrate(url)
    engine = make_engine(url)
    async with engine.begin() as connection:
        name = url.rpartition("/")[2]
        await connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    await engine.dispose()
    store = await sql.connect(url)
    with pytest.raises(Unavailable, match="read-only"):
        await store.save(gap(1, 2))
    await store.close()


def dead_letter(number: int, **changes: Any) -> DeadLetter:
    known = DeadLetter(
        f"{number:04}", "writer", "gap", "BTC-USD", DeadLetterCause.MESSAGE, "why", number, '{"a":"\\u0000"}'
    )
    return replace(known, **changes)


async def test_dead_letters_are_listed_replayed_dropped_and_limited_in_number(store: Store) -> None:
    await store.save(dead_letter(1), dead_letter(2), dead_letter(3), gap(1, 2))
    await store.save(dead_letter(2, reason="another", time=9))
    assert await store.dead_letters() == [dead_letter(1), dead_letter(3), dead_letter(2, reason="another", time=9)]
    await store.request_replay("0001", "0003", "none")
    assert [each.id for each in await store.dead_letters(replay=True)] == ["0001", "0003"]
    await store.save(dead_letter(3))  # became a dead letter again
    await store.drop_dead_letters("0001", "0002", "0003", replayed=True)
    assert [each.id for each in await store.dead_letters()] == ["0003", "0002"]
    await store.drop_dead_letters("0002")
    assert await store.count_dead_letters() == 1
    await store.save(*(dead_letter(number) for number in range(10, MAX_DEAD_LETTERS + 20)))
    await store.save(dead_letter(9_999))
    ids = [each.id for each in await store.dead_letters()]
    assert (len(ids), ids[0], ids[-1]) == (MAX_DEAD_LETTERS, "0021", "9999")


async def test_cancelled_writers_leave_no_lock(sql_store: Store) -> None:
    """Two writers that wait for each other's locks and are cancelled together end before the lock's timeout."""
    series = candle(0).series

    async def save() -> None:
        while True:
            first = next(minutes)
            await sql_store.save(*(candle((first + number) * MINUTE_MS) for number in range(50)))

    async def delete() -> None:
        while True:
            await sql_store.delete_derived(series, 0, 10)

    minutes = itertools.count(28_000_000, 50)
    for wait in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
        tasks = [asyncio.create_task(save()), asyncio.create_task(delete())]
        await asyncio.sleep(wait)
        for task in tasks:
            task.cancel()
        async with asyncio.timeout(9):  # a lock of a lost transaction would hold for 10 s
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


async def test_trading_rules_replace_those_of_the_same_symbol(store: Store) -> None:
    def rules(exchange: str, symbol: str, **fields: Any) -> TradingRules:
        values = {"tick_size": Decimal("0.010"), "step_size": Decimal("1E-8"), "min_size": Decimal(0), **fields}
        return TradingRules(exchange=exchange, instrument=BTC, symbol=symbol, trading=True, time=5, **values)

    first = rules("deribit", "BTC_USDC", maker_fee=Decimal("-0.00010"), taker_fee=Decimal("0.0005"))
    second = rules("binance", "BTCUSDT", min_notional=Decimal("5.00000000"))
    assert await store.trading_rules() == []
    await store.save(first, second)
    changed = replace(first, trading=False, maker_fee=None, instrument=Instrument("BTC", "USD", "PERPETUAL"), time=6)
    await store.save(changed)
    assert await store.trading_rules() == [second, changed]
    assert await store.trading_rules("binance") == [second]
