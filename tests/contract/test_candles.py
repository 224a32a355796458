"""The contract of the store for candles, candle gaps, seals and cursors, compared with a dictionary."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text

from services.adapters import sql
from services.adapters.sql import partitions
from services.adapters.sql.engine import make_engine
from services.core.coverage import SeriesCoverage
from services.core.minute_builder import TradeCursor
from services.core.model import Bar, Candle, CandleGap, CandleGapState, CandleSource, IndicatorValue, Instrument, Series
from services.core.ranges import from_open_times as runs_of
from services.core.seals import Seal
from services.core.timeframes import TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.ports import Store
from tests import servers

BTC = Instrument("BTC", "USDT")
SPAN_CANDLES = 200  # of the series of an example: more than one long run
names = (f"exchange{number}" for number in count())  # each example has its own, so that it sees no other one's candles
numbers = st.one_of(
    st.decimals(0, 10**9, places=8),
    st.decimals(0, 10**40, places=0),
    st.integers(0, 10**20).map(lambda digits: Decimal(digits).scaleb(-40)),
)
bars = st.builds(Bar, st.just(0), *[numbers] * 6, st.integers(0, 2**40))
quiet = numbers.map(lambda price: Bar(0, price, price, price, price, Decimal("0.00"), Decimal(0), 0))
property_settings = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def candle(series: Series, opening: int, price: str = "1.5", **changes: object) -> Candle:
    value = Decimal(price)
    bar = Bar(opening, value, value + 1, value - 1, value, Decimal("0.25"), Decimal("0.375"), 3)
    return replace(Candle(series, bar, True, CandleSource.TRADES), **changes)


def run(series: Series, since: int, bars: int, price: str = "1.5") -> list[Candle]:
    timeframe = TIMEFRAMES[series.timeframe]
    first = timeframe.open_time(since)
    return [
        candle(series, opening, price) for opening in timeframe.open_times(first, timeframe.step_back(first, -bars) - 1)
    ]


@st.composite
def histories(draw: st.DrawFn) -> tuple[Series, list[int], list[list[Candle]]]:
    """Draw a series, its open times, and batches to save in turn: single candles, and runs with some left out."""
    timeframe = TIMEFRAMES[draw(st.sampled_from(sorted(TIMEFRAMES)))]
    series = Series(next(names), BTC, timeframe.name)
    opening, open_times = timeframe.open_time(draw(st.integers(0, 4 * 10**12))), []
    for _ in range(SPAN_CANDLES):
        open_times.append(opening)
        opening = timeframe.close_time(opening)
    rest = st.tuples(
        st.one_of(bars, quiet), st.booleans() | st.just(True), st.sampled_from(CandleSource), st.integers(0, 2)
    )
    batches = []
    for _ in range(draw(st.integers(1, 4))):
        places = draw(st.lists(st.integers(0, SPAN_CANDLES - 1), max_size=8))
        if draw(st.booleans()):
            since = draw(st.integers(0, SPAN_CANDLES // 3))
            places = [place for place in range(since, since + SPAN_CANDLES // 2 + 10) if place not in places]
        variants = draw(st.lists(rest, min_size=1, max_size=4))
        batches.append(
            [
                Candle(series, replace(bar, open_time=open_times[place]), closed, source, revision)
                for place, (bar, closed, source, revision) in zip(places, _cycle(variants), strict=False)
            ]
        )
    return series, open_times, batches


def _cycle(variants: Sequence[tuple[Bar, bool, CandleSource, int]]) -> Iterator[tuple[Bar, bool, CandleSource, int]]:
    while True:
        yield from variants


@property_settings
@given(histories(), st.data())
async def test_stored_candles_equal_those_of_a_dictionary(
    store: Store, history: tuple[Series, list[int], list[list[Candle]]], data: st.DataObject
) -> None:
    series, open_times, batches = history
    timeframe, saved = TIMEFRAMES[series.timeframe], dict[int, Candle]()
    for batch in batches:
        await store.save(*batch)
        await store.save(*batch)
        saved |= {candle.bar.open_time: candle for candle in batch}
    if saved:
        assert (await store.series())[series] == (min(saved), max(saved))

    since, until = sorted(data.draw(st.tuples(*[st.integers(open_times[0] - 10, open_times[-1] + 10)] * 2)))
    limit = data.draw(st.integers(1, SPAN_CANDLES))
    in_span = [saved[opening] for opening in open_times if opening in saved and since <= opening <= until]
    assert await store.candles(series, since, until) == in_span
    assert await store.candles(series, since, until, limit) == in_span[:limit]
    older = [saved[opening] for opening in open_times if opening in saved and opening <= until]
    assert await store.latest_candles(series, until, limit) == older[-limit:]
    forming_since = data.draw(st.sampled_from(open_times))
    some = [candle for candle in in_span if candle.closed or candle.bar.open_time >= forming_since]
    assert await store.candles(series, since, until, limit, forming_since=forming_since) == some[:limit]
    some = [candle for candle in older if candle.closed or candle.bar.open_time >= forming_since]
    assert await store.latest_candles(series, until, limit, forming_since=forming_since) == some[-limit:]

    expected = list(timeframe.open_times(since, until))
    closed = [candle for candle in in_span if candle.closed]
    missing = runs_of(timeframe, set(expected) - {candle.bar.open_time for candle in closed})
    assert await store.missing_ranges(series, since, until) == missing
    built = (candle.bar.open_time for candle in closed if candle.source is CandleSource.TRADES)
    assert await store.unconfirmed_ranges(series, since, until) == runs_of(timeframe, built)
    assert await store.coverage(series, since, until) == SeriesCoverage(
        series=series,
        since=since,
        until=until,
        expected=len(expected),
        present=len(closed),
        empty=sum(candle.kind == "empty" for candle in closed),
        revised=sum(candle.revision > 0 for candle in closed),
        missing=tuple(missing),
        gaps=(),
    )


@property_settings
@given(st.lists(bars, min_size=1, max_size=3), st.sampled_from([1, 150]))
async def test_stored_candle_keeps_every_digit(store: Store, bars: list[Bar], times: int) -> None:
    series = Series(next(names), BTC, "1m")
    sent = [replace(bar, open_time=60_000 * number) for number, bar in enumerate(bars * times)]
    await store.save(*(Candle(series, bar, True, CandleSource.EXCHANGE) for bar in sent))
    assert [_digits(candle.bar) for candle in await store.candles(series, 0, FAR_FUTURE)] == [
        _digits(bar) for bar in sent
    ]


def _digits(bar: Bar) -> list[str]:
    return [f"{price:f}" for price in (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.quote_volume)]


async def test_exchange_name_may_have_any_character(store: Store) -> None:
    for exchange in ('quo"te', "back\\slash", "a,b{c}", "tab\tline\nend\r", "NULL", "\\N", "ёж"):
        series = Series(exchange, Instrument("1000SATS", "USDT", "PERPETUAL"), "1m")
        first, *rest = run(series, 0, 150)
        await store.save(*rest)
        await store.save(first)
        assert await store.candles(series, 0, FAR_FUTURE) == [first, *rest]
        assert series in await store.series()


@pytest.mark.parametrize("before", [99, 100])
async def test_creation_time_of_a_candle_survives_every_way_of_writing(sql_store: sql.SqlStore, before: int) -> None:
    """Candles are written alone, in a long run, and in a run with gaps."""
    series = Series("binance", BTC, "1m")
    candles = run(series, 0, 150)
    await sql_store.save(*candles[:before])
    created = await _created(sql_store)
    while time.time_ns() // 1_000_000 <= max(created.values()):
        pass  # until the clock ticks: a ms at most
    for some in (candles, candles[:1], candles[::2], [*candles[:50], *candles[51:]]):
        revised = [replace(candle, revision=candle.revision + 1) for candle in some]
        await sql_store.save(*revised, revised[0])
        assert {candle.bar.open_time: candle for candle in await sql_store.candles(series, 0, FAR_FUTURE)} == {
            candle.bar.open_time: candle for candle in (*candles, *revised)
        }
        await sql_store.save(*candles)
    later = await _created(sql_store)
    assert {at: when for at, when in later.items() if at in created} == created
    assert len(later) == 150
    assert min(when for at, when in later.items() if at not in created) > max(created.values())


async def _created(store: sql.SqlStore) -> dict[int, int]:
    async with store._engine.connect() as connection:
        rows = await connection.execute(text("SELECT timestamp, created_at FROM candles"))
        return {row.timestamp: row.created_at for row in rows}


async def test_failed_save_stores_no_item(sql_store: Store) -> None:
    series = Series("binance", BTC, "1m")
    broken = CandleGap(series, 0, None, 1)  # type: ignore[arg-type]
    for candles in (run(series, 0, 150), run(series, 0, 1)):
        with pytest.raises(Exception, match=r"(?i)null"):
            await sql_store.save(*candles, broken, TradeCursor(series, 1, 1, 1))
        assert (await sql_store.candles(series, 0, FAR_FUTURE), await sql_store.cursors()) == ([], [])


async def test_concurrent_writers_of_the_same_candles_leave_one_of_each(store: Store) -> None:
    series = [Series("binance", Instrument(base, "USDT"), "1h") for base in ("BTC", "ETH", "SOL")]
    runs = [run(one, start * 3_600_000, 150) for one in series for start in (0, 60, 120)]
    await asyncio.gather(*(store.save(*runs[number], *runs[-number]) for number in range(9)))
    for one in series:
        assert await store.candles(one, 0, FAR_FUTURE) == run(one, 0, 270)
        assert await store.missing_ranges(one, 0, 270 * 3_600_000) == [(270 * 3_600_000,) * 2]


async def test_saved_gap_seal_or_cursor_replaces_the_one_of_its_key(store: Store) -> None:
    series, other = Series("binance", BTC, "1m"), Series("deribit", Instrument("BTC", "USD", "PERPETUAL"), "1M")
    gaps = [
        CandleGap(series, 10, 20, detected=30),
        CandleGap(series, 10, 19, detected=30),
        CandleGap(other, 5, 5, detected=6),
    ]
    await store.save(*gaps, gaps[0])
    assert await store.candle_gaps(CandleGapState.OPEN) == [gaps[0], gaps[2]]
    repaired = replace(gaps[0], state=CandleGapState.REPAIRED, resolved=40, repaired_from=CandleSource.EXCHANGE)
    absent = replace(gaps[2], state=CandleGapState.ABSENT, resolved=7)
    await store.save(repaired, absent, absent)
    assert [await store.candle_gaps(state) for state in CandleGapState] == [[], [repaired], [absent]]
    assert (await store.coverage(series, 20, 25)).gaps == (repaired,)
    assert (await store.coverage(series, 0, 15)).gaps == (repaired,)
    shortened = replace(repaired, until=19, state=CandleGapState.ABSENT)
    await store.save(replace(gaps[0], since=30, until=40), replace(shortened, since=30, until=35))
    await store.save(shortened)
    assert await store.candle_gaps(CandleGapState.OPEN) == []
    assert (await store.coverage(series, 0, 15)).gaps == (shortened, repaired)
    assert (await store.coverage(series, 21, 25)).gaps == ()

    seals = [Seal(series, day, 1440, f"digest{day}", "", created_at=1) for day in (2, 1)]
    again = replace(seals[1], digest="corrected", revision=1)
    await store.save(*seals, Seal(other, 1, 1, "", "", 1))
    await store.save(again, *seals)
    assert await store.seals(series, 0, FAR_FUTURE) == [again, seals[0]]
    assert await store.seals(series, 2, 2) == [seals[0]]

    await store.save(TradeCursor(other, 1, 2, 3), TradeCursor(series, 1, 2, 3))
    await store.save(TradeCursor(series, 4, 5, 6), TradeCursor(series, 7, 8, 9))
    assert await store.cursors() == [TradeCursor(series, 7, 8, 9), TradeCursor(other, 1, 2, 3)]


async def test_deleting_candles_deletes_everything_derived_from_them(store: Store) -> None:
    series, other = (Series(next(names), BTC, "1m") for _ in range(2))
    day, since = 86_400_000, 20 * 86_400_000
    for each in (series, other):
        gap = CandleGap(each, since - 60_000, since, detected=1)
        seals = [Seal(each, at, 1, "a", "b", 1) for at in (since - day, since)]
        made = IndicatorValue(each, "sma:20", since, {"value": 1.0}, closed=True)
        cursor = TradeCursor(each, 7, since, 0)
        await store.save(*run(each, since - 3 * 60_000, 6), gap, replace(gap, since=since), *seals, made, cursor)
    assert await store.delete_candles(series, since) == 3
    assert [len(await store.candles(each, 0, FAR_FUTURE)) for each in (series, other)] == [3, 6]
    assert [len(await store.seals(each, 0, FAR_FUTURE)) for each in (series, other)] == [1, 2]
    assert [len(await store.indicator_values(each, 0, FAR_FUTURE)) for each in (series, other)] == [0, 1]
    found = [gap.series for gap in await store.candle_gaps(CandleGapState.OPEN)]
    assert [found.count(each) for each in (series, other)] == [1, 2]
    assert [cursor.series for cursor in await store.cursors() if cursor.series in (series, other)] == [other]
    await store.save(*run(series, since - 60_000, 2))
    assert len(await store.candles(series, 0, FAR_FUTURE)) == 4


async def test_partition_is_created_while_candles_are_read_and_written(postgres: servers.Postgres) -> None:
    url = postgres.create_database()
    await sql.migrate(url)
    store, engine = await sql.connect(url), make_engine(url)
    year = 2_840_140_800_000  # 2060
    series = Series("binance", BTC, "1d")
    candles = run(series, year - 3 * 86_400_000, 10)
    await store.save(*candles[::2])
    async with engine.begin() as connection:
        reading = await store.candles(series, 0, FAR_FUTURE)
        await connection.run_sync(partitions.create_missing, 2060)
        writing = asyncio.create_task(store.save(*candles[1::2]))
    await writing
    assert (reading, await store.candles(series, 0, FAR_FUTURE)) == (candles[::2], candles)
    async with engine.begin() as connection:
        await connection.run_sync(partitions.create_missing, 2060)
        places = await connection.execute(text("SELECT tableoid::regclass::text, count(*) FROM candles GROUP BY 1"))
        assert {tuple(row) for row in places} == {("candles_2059", 3), ("candles_2060", 7)}
    await engine.dispose()
    await store.close()
