"""Seals: an edit breaks the chain, a correction makes it again, and trailing zeros of a number do not matter."""

import asyncio
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.adapters.memory import MemoryStore
from services.core.candles import empty_bar, from_kline
from services.core.model import Bar, CandleGap, CandleGapState, Instrument, Kline, Series
from services.core.seals import GENESIS, Seal, digest
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.writer.batch_processor import BatchProcessor

HOURS = Series("x", Instrument("BTC", "USDT"), "1h")
FIRST = 19_723 * DAY_MS
FRAME = TIMEFRAMES["1h"]
HOUR = FRAME.length
FIELDS = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "open_time")


def day_klines(number: int, price: int = 5) -> list[Kline]:
    start = FIRST + number * DAY_MS
    return [Kline(HOURS, empty_bar(opening, Decimal(price))) for opening in FRAME.open_times(start, start + DAY_MS - 1)]


@given(st.lists(st.decimals("0.00000001", "1e9", places=8), min_size=6, max_size=6), st.sampled_from(FIELDS))
def test_digest_changes_with_every_value_but_not_with_trailing_zeros(values: list[Decimal], field: str) -> None:
    bar = Bar(FIRST, *values, 7)  # type: ignore[call-arg, arg-type]
    candle = from_kline(Kline(HOURS, bar))
    longer = Bar(FIRST, *(Decimal(f"{value:f}000") for value in values), 7)  # type: ignore[call-arg, arg-type]
    edited = replace(bar, **{field: getattr(bar, field) + 1})
    true = digest("before", [candle])
    assert digest("before", [replace(candle, bar=longer)]) == true
    assert digest("before", [replace(candle, bar=edited)]) != true
    assert digest("another", [candle]) != true
    assert digest("before", [candle, candle]) != true


async def seal_days(store: MemoryStore, now: int) -> None:
    processor = BatchProcessor(store)
    await processor.load()
    await (await processor.seal_days(HOURS, min(store.candle_rows[HOURS]), max(store.candle_rows[HOURS]), now)).commit()


async def save_klines(store: MemoryStore, *klines: Kline | CandleGap) -> None:
    processor = BatchProcessor(store)
    await processor.load()
    await (await processor.apply(klines, FIRST + 9 * DAY_MS)).commit()


async def check_chain(store: MemoryStore, days: list[int]) -> list[Seal]:
    """Check that the chain has these days and matches the stored candles."""
    seals = await store.seals(HOURS, 0, FAR_FUTURE)
    assert [(seal.day - FIRST) // DAY_MS for seal in seals] == days
    previous = GENESIS
    for seal in seals:
        rows = [
            store.candle_rows[HOURS][open_time]
            for open_time in FRAME.open_times(seal.day, seal.day + DAY_MS - 1)
            if open_time in store.candle_rows[HOURS]
        ]
        assert (seal.previous, seal.digest) == (previous, digest(previous, rows))
        assert seal.candles == len(rows)
        previous = seal.digest
    return seals


def test_complete_days_are_sealed_in_order_and_a_gap_stops_the_chain() -> None:
    async def play() -> None:
        store = MemoryStore()
        await save_klines(store, *day_klines(0)[5:], *day_klines(1), *day_klines(2)[:-1], *day_klines(3))
        await seal_days(store, FIRST + 4 * DAY_MS)
        await check_chain(store, [1])
        await save_klines(store, day_klines(2)[-1])
        await seal_days(store, FIRST + 4 * DAY_MS)
        await check_chain(store, [1, 2, 3])
        await save_klines(store, *day_klines(4)[:20])
        lacking = day_klines(4)[20].bar.open_time, day_klines(4)[-1].bar.open_time
        await save_klines(store, CandleGap(HOURS, *lacking, 1, CandleGapState.ABSENT, 1))
        await seal_days(store, FIRST + 5 * DAY_MS)
        assert (await check_chain(store, [1, 2, 3, 4]))[-1].candles == 20

    asyncio.run(play())


def test_correction_reseals_its_day_and_all_later_days() -> None:
    async def play() -> None:
        store = MemoryStore()
        await save_klines(store, *day_klines(0), *day_klines(1), *day_klines(2))
        await seal_days(store, FIRST + 3 * DAY_MS)
        before = await check_chain(store, [0, 1, 2])
        await save_klines(store, day_klines(1, price=6)[7])
        after = await check_chain(store, [0, 1, 2])
        assert [seal.revision for seal in after] == [0, 1, 1]
        assert after[0] == before[0]
        await save_klines(store, *day_klines(1)[:7])
        assert (await check_chain(store, [0, 1, 2])) == after
        store.candle_rows[HOURS][FIRST + DAY_MS] = replace(
            store.candle_rows[HOURS][FIRST + DAY_MS], bar=empty_bar(FIRST + DAY_MS, Decimal(9))
        )
        rows = [
            store.candle_rows[HOURS][opening] for opening in FRAME.open_times(FIRST + DAY_MS, FIRST + 2 * DAY_MS - 1)
        ]
        assert digest(after[1].previous, rows) != after[1].digest

    asyncio.run(play())


def test_edited_day_is_not_resealed_by_an_earlier_correction() -> None:
    async def play() -> None:
        store = MemoryStore()
        await save_klines(store, *day_klines(0), *day_klines(1), *day_klines(2))
        await seal_days(store, FIRST + 3 * DAY_MS)
        before = await check_chain(store, [0, 1, 2])
        true = store.candle_rows[HOURS][FIRST + DAY_MS]
        store.candle_rows[HOURS][FIRST + DAY_MS] = replace(true, bar=empty_bar(FIRST + DAY_MS, Decimal(9)))
        await save_klines(store, day_klines(0, price=6)[7])
        seals = await store.seals(HOURS, 0, FAR_FUTURE)
        assert [seal.revision for seal in seals] == [1, 0, 0]
        assert seals[1] == before[1]
        await save_klines(store, Kline(HOURS, true.bar))
        assert [seal.revision for seal in (await check_chain(store, [0, 1, 2]))] == [1, 1, 1]

    asyncio.run(play())


def test_older_days_join_the_chain_once_no_more_candles_arrive() -> None:
    async def play() -> None:
        store = MemoryStore()
        await save_klines(store, *day_klines(2), *day_klines(3))
        await seal_days(store, FIRST + 4 * DAY_MS)
        await save_klines(store, *day_klines(0), *day_klines(1))
        await check_chain(store, [2, 3])
        processor = BatchProcessor(store)
        for _ in range(2):
            await (await processor.seal_days(HOURS, FIRST, max(store.candle_rows[HOURS]), FIRST + 4 * DAY_MS)).commit()
        assert [seal.revision for seal in (await check_chain(store, [0, 1, 2, 3]))] == [0, 0, 1, 1]

    asyncio.run(play())


def test_day_of_roll_ups_is_sealed_without_absent_candles() -> None:
    """The day is not sealed until the missing candles are known to be absent."""
    two_hours = HOURS._replace(timeframe="2h")

    async def play() -> None:
        store = MemoryStore()
        await save_klines(store, *day_klines(0)[:12], *day_klines(0)[18:])

        async def seal() -> int:
            processor = BatchProcessor(store)
            await processor.load()
            pending = await processor.seal_days(two_hours, FIRST, max(store.candle_rows[two_hours]), FIRST + 26 * HOUR)
            await pending.commit()
            return sum(seal.candles for seal in await store.seals(two_hours, 0, FAR_FUTURE))

        assert await seal() == 0
        lacking = day_klines(0)[12].bar.open_time, day_klines(0)[17].bar.open_time
        await save_klines(store, CandleGap(HOURS, *lacking, 1, CandleGapState.ABSENT, 1))
        assert await seal() == 9

    asyncio.run(play())


def test_incomplete_day_stops_no_later_day_and_is_sealed_once_complete() -> None:
    halt = day_klines(1)[:12] + day_klines(1)[18:]

    async def play(restarts: bool) -> None:
        store = MemoryStore()
        await save_klines(store, *day_klines(0), *halt, *day_klines(2), *day_klines(3))
        processor = BatchProcessor(store)
        await processor.load()

        async def seal(days: int) -> None:
            await (
                await processor.seal_days(HOURS, FIRST, max(store.candle_rows[HOURS]), FIRST + days * DAY_MS)
            ).commit()

        await seal(3)
        await check_chain(store, [0])
        await seal(5)
        before = await check_chain(store, [0, 2, 3])
        for missing in day_klines(1)[12:18]:
            await seal(5)
            await (await processor.apply([missing], FIRST + 5 * DAY_MS)).commit()
            assert (await check_chain(store, [0, 2, 3])) == before, (
                "each hour alone would have made all later seals again"
            )
        if restarts:
            processor = BatchProcessor(store)
            await processor.load()
        for _ in range(2):
            await seal(5)
        assert [seal.revision for seal in (await check_chain(store, [0, 1, 2, 3]))] == [0, 0, 1, 1]

    for restarts in (False, True):
        asyncio.run(play(restarts))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_chain_has_all_complete_days_in_any_order_of_completion(data: st.DataObject) -> None:
    """Hours arrive in any order; some never arrive, and some are absent at the exchange."""
    hours = [kline for number in range(5) for kline in day_klines(number)]
    places = st.integers(1, len(hours) - 1)  # the stored candles begin with a complete day
    never, lacking = data.draw(st.sets(places, max_size=3)), data.draw(st.sets(places, max_size=3))
    late = data.draw(st.lists(places, max_size=8, unique=True))
    never -= {*late}
    first = [hour for place, hour in enumerate(hours) if place not in {*never, *lacking, *late}]
    gaps = [
        CandleGap(HOURS, o, o, 1, CandleGapState.ABSENT, 1) for o in (hours[place].bar.open_time for place in lacking)
    ]
    batches = list[list[Kline | CandleGap]]([[*first[::2]], [*first[1::2]]])
    batches += [[hours[place]] for place in late]
    batches.insert(data.draw(st.integers(0, len(batches))), [*gaps])

    async def play() -> None:
        store, now = MemoryStore(), FIRST + 9 * DAY_MS
        processor = BatchProcessor(store)
        for batch in [*batches, [], [], []]:
            if batch and data.draw(st.integers(0, 4)) == 0:
                processor = BatchProcessor(store)
                await processor.load()
            await (await processor.apply(batch, now)).commit()
            if stored := store.candle_rows.get(HOURS):
                await (await processor.seal_days(HOURS, min(stored), max(stored), now)).commit()
        whole = set(range(5)) - {place // 24 for place in never - lacking}
        await check_chain(store, sorted(whole & {(o - FIRST) // DAY_MS for o in store.candle_rows[HOURS]}))

    asyncio.run(play())
