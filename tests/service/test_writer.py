"""The writer on a bus and a store that fail: what it was given is kept once, and told after it is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial

import pytest
from msgspec.structs import replace

from services.adapters.clock import SystemClock
from services.adapters.memory import MemoryBus, MemoryCache, MemoryJournal
from services.core.minute_builder import Cursor
from services.core.model import Bar, Candle, Instrument, Kline, Origin, Series, State, Trade
from services.core.timeframes import MINUTE
from services.hub import Hub
from services.ports import Deps
from services.settings import Settings
from services.writer.jobs import keep_candles
from tests.memory_store import Kept, as_store
from tests.simulator import until

PAIR = Instrument("BTC", "USDT")
SERIES = Series("x", PAIR, "1m")
START = 1_704_067_200_000


def trade(number: int, time: int) -> Trade:
    return Trade("x", PAIR, time, time, Decimal(number), Decimal(1), number)


@asynccontextmanager
async def writing(bus: MemoryBus, store: Kept) -> AsyncIterator[list[Candle]]:
    """The writer at work; yields what it tells."""
    settings, clock = Settings(_env_file=None), SystemClock()
    deps = Deps(settings, clock, bus, MemoryCache(), as_store(store), Hub(clock), (), MemoryJournal())
    told, ready = list[Candle](), asyncio.Event()

    async def listen() -> None:
        async with bus.live(Candle) as messages:
            ready.set()
            async for message in messages:
                if isinstance(message, Candle):
                    told.append(message)

    tasks = [asyncio.create_task(listen())]
    await ready.wait()
    tasks.append(asyncio.create_task(keep_candles(deps)))
    try:
        yield told
        assert not any(task.done() for task in tasks), "a job ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def kept(store: Kept, number: int) -> bool:
    """Whether all up to that trade is kept, and the store works again."""
    cursor = store.progress.get(SERIES)
    return cursor is not None and cursor.number == number and store.failures < 0


def all_told(told: list[Candle], store: Kept) -> bool:
    """Whether what was told last of each candle is what is kept of it."""
    newest = {(candle.series, candle.bar.timestamp): replace(candle, place=None, published=0) for candle in told}
    return newest == {(series, opening): row for series, rows in store.rows.items() for opening, row in rows.items()}


async def test_a_store_that_fails_before_or_after_the_commit_keeps_every_trade_once() -> None:
    bus, store, number = MemoryBus(), Kept(), 0
    async with writing(bus, store) as told:
        for minute in range(4):
            store.failures = 3
            for second in range(0, 60, 20):
                number += 1
                await bus.publish(trade(number, START + minute * MINUTE + second * 1000))
            await until(partial(kept, store, number), 20)
        await until(lambda: all_told(told, store))
    minutes = store.rows[SERIES]
    for minute in range(1, 3):
        candle = minutes[START + minute * MINUTE]
        first = 3 * minute + 1
        prices = candle.bar.open, candle.bar.high, candle.bar.low, candle.bar.close
        assert prices == tuple(map(Decimal, (first, first + 2, first, first + 2)))
        assert (int(candle.bar.volume), candle.bar.trades, candle.closed, candle.revision) == (3, 3, True, 0)


async def test_a_writer_that_ends_gives_back_what_it_did_not_keep() -> None:
    bus, store = MemoryBus(), Kept()
    store.failures = 10**6
    async with writing(bus, store):
        await bus.publish(trade(1, START - 1), trade(2, START))
        await until(lambda: store.failures < 10**6 - 1)
    assert store.progress.get(SERIES) is None or store.progress[SERIES].number == 2
    store.failures = 0
    async with writing(bus, store):
        await bus.publish(trade(3, START + 1), trade(4, START + MINUTE))
        await until(lambda: (c := store.progress.get(SERIES)) and c.number == 4)
    assert store.rows[SERIES][START].bar.trades == 2
    assert store.rows[SERIES][START].closed


async def test_rows_of_the_future_hold_nobody_up_after_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    bus, store, now = MemoryBus(), Kept(), SystemClock().now()
    tomorrow = (now + 86_400_000) // MINUTE * MINUTE
    nine = Decimal(9)
    bar = Bar(tomorrow, nine, nine, nine, nine, nine, nine, 1)
    store.rows[SERIES] = {tomorrow: Candle(SERIES, bar, closed=True, source=Origin.TICKS)}
    store.progress[SERIES] = Cursor(SERIES, 2**62, tomorrow, tomorrow)  # so large that the next is taken for an old one
    state = State("x", now, True, "socket", "", "", 0, now, 0, False, clock_offset=-180_000)
    async with writing(bus, store) as told:
        while tomorrow in store.rows[SERIES]:
            await bus.publish(state)
            await asyncio.sleep(0.1)
        await bus.publish(trade(6, now - MINUTE), trade(7, now))
        await until(lambda: told, 5)
    assert max(store.rows[SERIES]) == now // MINUTE * MINUTE
    assert store.progress[SERIES].number == 7
    assert "1 candles of the future are deleted" in caplog.text


async def test_what_was_kept_but_not_told_is_told_by_the_next_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.writer.committer.RETRY_SECONDS", 3_600)  # the first writer ends before it tries again
    bus, store = MemoryBus(), Kept()
    async with writing(bus, store) as first:
        await bus.publish(*(kline(minute, 1) for minute in range(5_000)))
        await until(lambda: all_told(first, store) and len(store.rows[SERIES]) == 5_000)
        store.failures = committed = 10**6 - 1
        await bus.publish(kline(7, 2))
        await until(lambda: store.failures == committed - 1)
    assert not all_told(first, store)
    store.failures = 0
    async with writing(bus, store) as second:
        await until(lambda: all_told([*first, *second], store))


def kline(minute: int, price: int) -> Kline:
    """What the exchange says of a minute."""
    value = Decimal(price)
    return Kline(SERIES, Bar(START + minute * MINUTE, value, value, value, value, value, value, 1))
