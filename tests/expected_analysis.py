"""The analyst's rows compared with rows that are computed from the same candles."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from services.adapters import sql
from services.analyst.computed_rows import compute_rows, daily_since, earliest_needed
from services.analyst.series_window import VERIFIED_CANDLES
from services.core.analysis import Analysis
from services.core.indicators import to_columns
from services.core.model import Candle, CandleSource, IndicatorValue, Series
from services.core.timeframes import TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.ports import Store
from tests import expected_candles
from tests.expected_candles import Difference

Row = IndicatorValue | Analysis


class Comparison(NamedTuple):
    """The number of compared rows, and the differences."""

    rows: int
    wrong: list[Difference]


def compare(simulator: str, database: str, every: Iterable[Series]) -> Comparison:
    """Compare the rows of the newest closed candles of Binance with rows of the simulator's candles."""
    return asyncio.run(_compare_series(simulator, database, every))


async def _compare_series(simulator: str, database: str, every: Iterable[Series]) -> Comparison:
    store, count, wrong = await sql.connect(database), 0, list[Difference]()
    try:
        stored = await store.series()
        for series in (each for each in every if each in stored):
            newest = [
                candle
                for candle in await store.latest_candles(series, FAR_FUTURE, VERIFIED_CANDLES + 1)
                if candle.closed
            ]
            if newest:
                since = max(stored[series][0], earliest_needed(TIMEFRAMES[series.timeframe], newest[0].bar.open_time))
                bars = expected_candles.fetch_expected(simulator, {series: (since, newest[-1].bar.open_time)})[series]
                days = await _daily_candles(store, series, newest[0].bar.open_time)
                true = expected_rows(
                    series, [Candle(series, bars[at], True, CandleSource.EXCHANGE) for at in sorted(bars)], days
                )
                wrong += await compare_stored(store, series, true)
                count += len(true)
    finally:
        await store.close()
    return Comparison(count, wrong)


async def _daily_candles(store: Store, series: Series, opening: int) -> list[Candle] | None:
    """Return the stored closed 1d candles of price levels, None if none are needed."""
    since = daily_since(TIMEFRAMES[series.timeframe], opening)
    if since is None:
        return None
    return [each for each in await store.candles(series._replace(timeframe="1d"), since, FAR_FUTURE) if each.closed]


def expected_rows(series: Series, closed: Sequence[Candle], days: Sequence[Candle] | None = None) -> list[Row]:
    """Return the right rows of the newest of these closed candles. `days` are the 1d candles of their price levels."""
    columns = to_columns(closed)
    since = int(columns.open_times[-VERIFIED_CANDLES:][0])
    return [
        row
        for row in compute_rows(series, columns, since, None if days is None else to_columns(days))
        if row.open_time is not None and row.open_time >= since
    ]


async def compare_stored(store: Store, series: Series, true: Sequence[Row]) -> list[Difference]:
    """Return the differences between stored and right rows."""
    times = [row.open_time or 0 for row in true]
    values = await store.indicator_values(series, min(times), max(times))
    analyses = await store.analyses(series, min(times), max(times))
    return list(_row_differences(series, true, [*values, *analyses]))


def _row_differences(series: Series, true: Sequence[Row], found: Sequence[Row]) -> Iterator[Difference]:
    ours, theirs = ({_row_name(row): row for row in some} for some in (found, true))
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            opening, where = name
            yield Difference(series, where, opening, theirs.get(name), ours.get(name))


def _row_name(row: Row) -> tuple[int, str]:
    return row.open_time or 0, row.indicator if isinstance(row, IndicatorValue) else "analysis"
