"""The contract of the store for indicator values and analyses, on both databases."""

from collections.abc import Sequence
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text

from services.adapters import sql
from services.core.analysis import (
    Analysis,
    NamedPrice,
    Side,
    Signal,
    SupportResistanceLevel,
    Trend,
    TrendDirection,
    Volatility,
    Vote,
)
from services.core.model import IndicatorValue, Instrument, Series
from services.core.times import FAR_FUTURE
from services.ports import Store

BTC = Series("binance", Instrument("BTC", "USDT"), "1h")
PERPETUAL = Series("deribit", Instrument("BTC", "USD", "PERPETUAL"), "1h")
floats = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)  # JSON has no -0
names = st.text("abc:0123456789_", min_size=1, max_size=8)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
inputs = st.dictionaries(names, floats, max_size=3)
times = st.integers(0, 2**50)
levels = st.lists(st.builds(SupportResistanceLevel, floats, times, st.integers(0, 100), times, times), max_size=3).map(
    tuple
)
named_prices = st.lists(st.builds(NamedPrice, texts, floats), max_size=3).map(tuple)
analyses = st.builds(
    Analysis,
    st.sampled_from([BTC, PERPETUAL]),
    st.integers(0, 9),
    floats,
    st.integers(0, 10**6),
    st.builds(
        Trend,
        st.sampled_from(TrendDirection),
        st.integers(0, 100),
        st.lists(st.builds(Vote, names, floats, times, inputs, texts), max_size=2).map(tuple),
    ),
    st.lists(st.builds(Signal, names, st.sampled_from(Side), times, floats, inputs, texts), max_size=2).map(tuple),
    levels,
    levels,
    named_prices,
    named_prices,
    st.none() | st.builds(Volatility, floats, floats, st.integers(0, 100), texts),
    st.lists(texts, max_size=2).map(tuple),
)
indicator_values = st.builds(
    IndicatorValue,
    st.sampled_from([BTC, PERPETUAL]),
    names,
    st.integers(0, 9),
    st.dictionaries(names, st.none() | floats, max_size=3),
    st.just(True),
)
batches = st.lists(st.lists(indicator_values | analyses, max_size=12), min_size=1, max_size=4)
property_settings = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def key(item: IndicatorValue | Analysis) -> tuple[object, ...]:
    name = item.indicator if isinstance(item, IndicatorValue) else ""
    return type(item).__name__, item.series, item.open_time, name


async def stored_items(store: Store, since: int = 0, until: int = FAR_FUTURE) -> list[IndicatorValue | Analysis]:
    found: list[IndicatorValue | Analysis] = []
    for series in (BTC, PERPETUAL):
        found += await store.indicator_values(series, since, until)
        found += await store.analyses(series, since, until)
    return found


@property_settings
@given(batches=batches, span=st.tuples(st.integers(0, 9), st.integers(0, 9)))
async def test_stored_rows_equal_those_of_a_dictionary(
    store: Store, batches: Sequence[Sequence[IndicatorValue | Analysis]], span: tuple[int, int]
) -> None:
    for series in (BTC, PERPETUAL):
        await store.delete_derived(series, 0, FAR_FUTURE)
    true = dict[tuple[object, ...], IndicatorValue | Analysis]()
    for batch in batches:
        await store.save(*batch)
        true |= {key(item): item for item in batch}
    assert {key(item): item for item in await stored_items(store)} == true
    within = {each: item for each, item in true.items() if span[0] <= (item.open_time or 0) <= span[1]}
    found = await stored_items(store, *span)
    assert {key(item): item for item in found} == within
    assert [key(item) for item in found] == sorted(map(key, found), key=_order)
    await store.delete_derived(BTC, *span)
    left = {each: item for each, item in true.items() if not (each in within and item.series == BTC)}
    assert {key(item): item for item in await stored_items(store)} == left


def _order(each: tuple[object, ...]) -> tuple[object, ...]:
    kind, series, timestamp, name = each
    return series, kind == "Analysis", timestamp, name


async def test_equal_rows_are_not_written(sql_store: sql.SqlStore) -> None:
    """PostgreSQL gives a written row a new location; SQLite counts written rows."""
    rows = [IndicatorValue(BTC, f"sma:{length}", 5, {"sma": 0.1 + length, "more": None}, True) for length in range(300)]
    analysis = Analysis(
        BTC, 5, 97602.01, 300, Trend(TrendDirection.UP, 40, ()), notes=('a "quoted", {braced} \\ note',)
    )
    await sql_store.save(*rows, analysis)
    before = await row_locations(sql_store)
    await sql_store.save(*rows, analysis)
    assert await row_locations(sql_store) == before
    rows[7] = replace(rows[7], values={"sma": 0.1, "more": None})
    await sql_store.save(*rows, replace(analysis, notes=()))
    assert len(await row_locations(sql_store) - before) == 2
    assert (await sql_store.indicator_values(BTC, 5, 5)).count(rows[7]) == 1


async def row_locations(store: sql.SqlStore) -> set[object]:
    """The location of each row, which a write changes. SQLite writes in place, so there it is the content."""
    queries = ["SELECT indicator_name, value FROM indicators", "SELECT timestamp, notes FROM analysis"]
    if store._engine.dialect.name == "postgresql":
        queries = ["SELECT ctid::text, 1 FROM indicators", "SELECT ctid::text, 2 FROM analysis"]
    async with store._engine.connect() as connection:
        return {tuple(row) for query in queries for row in await connection.execute(text(query))}


async def test_indicator_values_of_a_series_are_deleted_without_its_analyses(store: Store) -> None:
    values = [IndicatorValue(series, "sma:20", 5, {"sma": 1.0}, True) for series in (BTC, PERPETUAL)]
    analysis = Analysis(BTC, 5, 97602.01, 300, Trend(TrendDirection.UP, 40, ()))
    await store.save(*values, analysis)
    await store.delete_indicator_values(BTC)
    assert await stored_items(store) == [analysis, values[1]]


async def test_close_of_an_analysis_keeps_its_digits(sql_store: sql.SqlStore) -> None:
    await sql_store.save(Analysis(BTC, 5, 0.00001234, 1, Trend(TrendDirection.UNKNOWN, 0, ())))
    async with sql_store._engine.connect() as connection:
        (close,) = (await connection.execute(text("SELECT CAST(close AS TEXT) FROM analysis"))).one()
    assert Decimal(close) == Decimal("0.00001234")
