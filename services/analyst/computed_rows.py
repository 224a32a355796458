"""What candles come to: readings of indicators, and analyses. Pure arithmetic, for a thread of its own."""

from collections.abc import Iterable, Iterator
from math import isnan

import numpy as np

from services.core.analysis import Analysis
from services.core.analysis.analysing import REQUIREMENTS, analyse_since
from services.core.analysis.blocks import Block, Requirements, blocks, first_needed
from services.core.indicators import (
    CATALOG,
    STANDARD,
    IndicatorSpec,
    OhlcvColumns,
    PriceLevel,
    compute,
    compute_levels,
    lookahead,
)
from services.core.model import IndicatorValue, Series
from services.core.timeframes import TIMEFRAMES, Timeframe

REQUIREMENTS_BY_SPEC = {asked: Requirements((asked,), candles_after=lookahead(asked)) for asked in STANDARD}
DAILY_REQUIREMENTS = Requirements(STANDARD)
MAX_LEVELS_PER_NAME = 3  # of one kind
Values = dict[str, float | None]


def compute_rows(
    series: Series, columns: OhlcvColumns, since: int, daily: OhlcvColumns | None = None
) -> list[IndicatorValue | Analysis]:
    """What closed candles with openings from `since` on say, and those before them that look ahead to them. `daily`:
    closed candles of 1d from `daily_since` on.
    """
    found = [reading for asked in STANDARD for reading in indicator_values(series, columns, since, asked, daily=daily)]
    return [*found, *analyse_since(series, columns, since, daily)]


def daily_since(timeframe: Timeframe, open_time: int) -> int | None:
    """The first opening of the candles of 1d that rows from this opening on are made of; None: they need none."""
    return DAILY_REQUIREMENTS.daily_since(timeframe, open_time)


def earliest_needed(timeframe: Timeframe, open_time: int, requested: Iterable[IndicatorSpec] = ()) -> int:
    """The first opening that all of it, and what is `wished`, is computed from, for candles from this opening on."""
    needs = [*REQUIREMENTS_BY_SPEC.values(), *map(_requirements, requested)]
    earlier = (first_needed(need, timeframe, timeframe.step_back(open_time, need.candles_after)) for need in needs)
    return min(first_needed(REQUIREMENTS, timeframe, open_time), *earlier)


def indicator_values(  # noqa: PLR0913  what it is computed from, and of what
    series: Series,
    columns: OhlcvColumns,
    since: int,
    spec: IndicatorSpec,
    *,
    daily: OhlcvColumns | None = None,
    closed: bool = True,
) -> Iterator[IndicatorValue]:
    """What one indicator says; the last candle is the forming one unless `closed`."""
    timeframe, need, name = TIMEFRAMES[series.timeframe], _requirements(spec), str(spec)
    place = max(0, int(np.searchsorted(columns.open_times, since)) - need.candles_after)
    for part in blocks(need, timeframe, columns, int(columns.open_times[place])):
        for opening, values in _block_values(spec, part, timeframe, daily):
            yield IndicatorValue(series, name, opening, values, closed)


def _requirements(spec: IndicatorSpec) -> Requirements:
    return REQUIREMENTS_BY_SPEC.get(spec) or Requirements((spec,), candles_after=lookahead(spec))


def _block_values(
    spec: IndicatorSpec, block: Block, timeframe: Timeframe, daily: OhlcvColumns | None
) -> Iterator[tuple[int, Values]]:
    openings = block.columns.open_times[block.first : block.end].tolist()
    if CATALOG[spec.name].has_levels:
        for place, opening in zip(block.indices(), openings, strict=True):
            known = block.columns.slice(0, place + 1)
            yield opening, name_levels(compute_levels(spec, known, timeframe, daily), float(known.close[-1]))
        return
    said = compute(spec, block.columns, timeframe)
    lines = [column[block.first : block.end].tolist() for column in said.values()]
    for opening, *values in zip(openings, *lines, strict=True):
        yield opening, {name: None if isnan(value) else value for name, value in zip(said, values, strict=True)}


def name_levels(price_levels: list[PriceLevel], close: float) -> Values:
    """Levels by name. Of those with one name the nearest to the close: `support`, `support_2`, `support_3`. `missing`
    counts the candles that are missing of those that pivot points are made of.
    """
    values: Values = {}
    if price_levels and (missing := price_levels[0].details.get("missing")):
        values["missing"] = missing
    counts: dict[str, int] = {}
    for level in sorted(price_levels, key=lambda each: abs(each.price - close)):
        counts[level.name] = number = counts.get(level.name, 0) + 1
        if number <= MAX_LEVELS_PER_NAME:
            values[level.name if number == 1 else f"{level.name}_{number}"] = level.price
    return values


def requested_values(
    series: Series,
    columns: OhlcvColumns,
    since: int,
    requested: Iterable[IndicatorSpec],
    daily: OhlcvColumns | None = None,
) -> list[IndicatorValue]:
    """What these indicators say of closed candles with openings from `since` on."""
    return [reading for asked in requested for reading in indicator_values(series, columns, since, asked, daily=daily)]


def forming_values(
    series: Series,
    columns: OhlcvColumns,
    candle: OhlcvColumns,
    specs: Iterable[IndicatorSpec],
    daily: OhlcvColumns | None = None,
) -> list[IndicatorValue]:
    """What these indicators say at the forming candle, which follows on the closed ones."""
    opening = int(candle.open_times[0])
    whole = OhlcvColumns(*(np.append(old, new) for old, new in zip(columns, candle, strict=True)))
    found = (
        reading
        for asked in specs
        for reading in indicator_values(series, whole, opening, asked, daily=daily, closed=False)
    )
    return [reading for reading in found if reading.open_time == opening]
