"""The writer with a failing store: each message is saved once, and published after it is saved."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial

import pytest
from msgspec.structs import replace

from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus
from services.core.minute_builder import TradeCursor
from services.core.model import Bar, Candle, CandleSource, ExchangeStatus, Instrument, Kline, Series, Trade
from services.core.timeframes import MINUTE_MS
from services.writer.jobs import write_candles
from tests.deps import make_deps
from tests.failing_store import FailingStore
from tests.jobs import recorded_messages, running_jobs
from tests.waiting import eventually

PAIR = Instrument("BTC", "USDT")
SERIES = Series("x", PAIR, "1m")
START = 1_704_067_200_000


def trade(number: int, time: int) -> Trade:
    return Trade("x", PAIR, time, time, Decimal(number), Decimal(1), number)


@asynccontextmanager
async def run_writer(bus: MemoryBus, store: FailingStore) -> AsyncIterator[list[Candle]]:
    """Run the writer until the block ends; the list has the candles that it publishes."""
    deps = make_deps(bus=bus, store=store)
    async with recorded_messages(bus, Candle) as candles, running_jobs(write_candles(deps)):
        yield candles


def is_saved(store: FailingStore, number: int) -> bool:
    """Return whether the trade is saved and the store works again."""
    cursor = store.cursor_rows.get(SERIES)
    return cursor is not None and cursor.trade_id == number and store.failures < 0


def all_published(published: list[Candle], store: FailingStore) -> bool:
    """Return whether the last published version of each candle is the stored one."""
    newest = {
        (candle.series, candle.bar.open_time): replace(candle, position=None, published=0) for candle in published
    }
    return newest == {
        (series, opening): row for series, rows in store.candle_rows.items() for opening, row in rows.items()
    }


async def test_every_trade_is_saved_once_although_commits_fail() -> None:
    bus, store, number = MemoryBus(), FailingStore(), 0
    async with run_writer(bus, store) as candles:
        for minute in range(4):
            store.failures = 3
            for second in range(0, 60, 20):
                number += 1
                await bus.publish(trade(number, START + minute * MINUTE_MS + second * 1000))
            await eventually(partial(is_saved, store, number))
        await eventually(lambda: all_published(candles, store))
    minutes = store.candle_rows[SERIES]
    for minute in range(1, 3):
        candle = minutes[START + minute * MINUTE_MS]
        first = 3 * minute + 1
        prices = candle.bar.open, candle.bar.high, candle.bar.low, candle.bar.close
        assert prices == tuple(map(Decimal, (first, first + 2, first, first + 2)))
        assert (int(candle.bar.volume), candle.bar.trades, candle.closed, candle.revision) == (3, 3, True, 0)


async def test_messages_that_a_stopped_writer_did_not_save_go_to_the_next_one() -> None:
    bus, store = MemoryBus(), FailingStore()
    store.failures = 10**6
    async with run_writer(bus, store):
        await bus.publish(trade(1, START - 1), trade(2, START))
        await eventually(lambda: store.failures < 10**6 - 1)
    assert store.cursor_rows.get(SERIES) is None or store.cursor_rows[SERIES].trade_id == 2
    store.failures = 0
    async with run_writer(bus, store):
        await bus.publish(trade(3, START + 1), trade(4, START + MINUTE_MS))
        await eventually(lambda: (c := store.cursor_rows.get(SERIES)) and c.trade_id == 4)
    assert store.candle_rows[SERIES][START].bar.trades == 2
    assert store.candle_rows[SERIES][START].closed


async def test_candles_and_cursors_from_the_future_are_deleted_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    bus, store, now = MemoryBus(), FailingStore(), SystemClock().now()
    tomorrow = (now + 86_400_000) // MINUTE_MS * MINUTE_MS
    nine = Decimal(9)
    bar = Bar(tomorrow, nine, nine, nine, nine, nine, nine, 1)
    store.candle_rows[SERIES] = {tomorrow: Candle(SERIES, bar, closed=True, source=CandleSource.TRADES)}
    id_beyond_all = 2**62  # with which every other trade would be an old one
    store.cursor_rows[SERIES] = TradeCursor(SERIES, id_beyond_all, tomorrow, tomorrow)
    state = ExchangeStatus("x", now, True, "socket", "", "", 0, now, 0, False, clock_offset=-180_000)
    async with run_writer(bus, store) as candles:

        async def deleted() -> bool:
            await bus.publish(state)
            return tomorrow not in store.candle_rows[SERIES]

        await eventually(deleted)
        await bus.publish(trade(6, now - MINUTE_MS), trade(7, now))
        await eventually(lambda: candles)
    assert max(store.candle_rows[SERIES]) == now // MINUTE_MS * MINUTE_MS
    assert store.cursor_rows[SERIES].trade_id == 7
    assert "1 candles of the future are deleted" in caplog.text


async def test_saved_but_unpublished_candles_are_published_by_the_next_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.writer.committer.RETRY_SECONDS", 3_600)  # the first writer ends before it retries
    bus, store = MemoryBus(), FailingStore()
    async with run_writer(bus, store) as first:
        await bus.publish(*(kline(minute, 1) for minute in range(5_000)))
        await eventually(lambda: len(store.candle_rows.get(SERIES, {})) == 5_000 and all_published(first, store), 240)
        store.failures = committed = 10**6 - 1
        await bus.publish(kline(7, 2))
        await eventually(lambda: store.failures < committed and not all_published(first, store))
    store.failures = 0
    async with run_writer(bus, store) as second:
        await eventually(lambda: all_published([*first, *second], store), 240)


def kline(minute: int, price: int) -> Kline:
    """Return the exchange's kline of a minute."""
    value = Decimal(price)
    return Kline(SERIES, Bar(START + minute * MINUTE_MS, value, value, value, value, value, value, 1))
