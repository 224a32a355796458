"""What the analyst keeps, beside what the same candles come to when all is computed anew."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from services.adapters import sql
from services.analyst.computed_rows import daily_since, needed, rows
from services.analyst.series_window import KEPT
from services.core.analysis import Analysis
from services.core.indicators import columns
from services.core.model import Candle, Origin, Reading, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Store
from tests import expected_candles
from tests.expected_candles import Difference

FOREVER = 2**62
Row = Reading | Analysis


class Compared(NamedTuple):
    """How many rows were looked at, and what is not as it ought to be."""

    rows: int
    wrong: list[Difference]


def compared(simulator: str, database: str, every: Iterable[Series]) -> Compared:
    """The rows of the newest closed candles of Binance's series, beside what its own candles come to."""
    return asyncio.run(_beside(simulator, database, every))


async def _beside(simulator: str, database: str, every: Iterable[Series]) -> Compared:
    store, count, wrong = await sql.connect(database), 0, list[Difference]()
    try:
        kept = await store.series()
        for series in (each for each in every if each in kept):
            newest = [candle for candle in await store.last(series, FOREVER, KEPT + 1) if candle.closed]
            if newest:
                since = max(kept[series][0], needed(TIMEFRAMES[series.timeframe], newest[0].bar.timestamp))
                bars = expected_candles.truth(simulator, {series: (since, newest[-1].bar.timestamp)})[series]
                days = await _days(store, series, newest[0].bar.timestamp)
                true = true_rows(series, [Candle(series, bars[at], True, Origin.EXCHANGE) for at in sorted(bars)], days)
                wrong += await against(store, series, true)
                count += len(true)
    finally:
        await store.close()
    return Compared(count, wrong)


async def _days(store: Store, series: Series, opening: int) -> list[Candle] | None:
    """The closed candles of 1d that levels are made of, as they are kept; None: they need none."""
    since = daily_since(TIMEFRAMES[series.timeframe], opening)
    if since is None:
        return None
    return [each for each in await store.candles(series._replace(timeframe="1d"), since, FOREVER) if each.closed]


def true_rows(series: Series, closed: Sequence[Candle], days: Sequence[Candle] | None = None) -> list[Row]:
    """What the rows of the newest of these closed candles ought to be. `days`: those of 1d that levels are made of."""
    whole = columns(closed)
    since = int(whole.time[-KEPT:][0])
    return [
        row
        for row in rows(series, whole, since, None if days is None else columns(days))
        if row.timestamp is not None and row.timestamp >= since
    ]


async def against(store: Store, series: Series, true: Sequence[Row]) -> list[Difference]:
    """Where what is kept is not so."""
    times = [row.timestamp or 0 for row in true]
    readings = await store.readings(series, min(times), max(times))
    analyses = await store.analyses(series, min(times), max(times))
    return list(_compared(series, true, [*readings, *analyses]))


def _compared(series: Series, true: Sequence[Row], found: Sequence[Row]) -> Iterator[Difference]:
    ours, theirs = ({_name(row): row for row in some} for some in (found, true))
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            opening, where = name
            yield Difference(series, where, opening, theirs.get(name), ours.get(name))


def _name(row: Row) -> tuple[int, str]:
    return row.timestamp or 0, row.indicator if isinstance(row, Reading) else "analysis"
