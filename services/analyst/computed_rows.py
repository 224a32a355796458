"""Indicator values and analyses computed from columns of candles: pure arithmetic, to be run in a thread."""

from collections.abc import Iterable, Iterator, Sequence
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

REQUIREMENTS_BY_SPEC = {spec: Requirements((spec,), candles_after=lookahead(spec)) for spec in STANDARD}
DAILY_REQUIREMENTS = Requirements(STANDARD)
MAX_LEVELS_PER_NAME = 3
Values = dict[str, float | None]


def compute_rows(
    series: Series,
    columns: OhlcvColumns,
    since: int,
    daily: OhlcvColumns | None = None,
    specs: Sequence[IndicatorSpec] = STANDARD,
) -> list[IndicatorValue | Analysis]:
    """Return the rows of closed candles with open times from `since` on, and of candles before whose indicators look
    ahead to them: an analysis and a value of each indicator. `daily` are closed candles of 1d from `daily_since` on.
    """
    values = [value for spec in specs for value in indicator_values(series, columns, since, spec, daily=daily)]
    return [*values, *analyse_since(series, columns, since, daily)]


def daily_since(timeframe: Timeframe, open_time: int) -> int | None:
    """Return the first open time of the candles of 1d needed for rows from `open_time` on; None if none are needed."""
    return DAILY_REQUIREMENTS.daily_since(timeframe, open_time)


def earliest_needed(timeframe: Timeframe, open_time: int, requested: Iterable[IndicatorSpec] = ()) -> int:
    """Return the first open time needed for the rows and the requested indicators of candles from `open_time` on."""
    per_indicator = [*REQUIREMENTS_BY_SPEC.values(), *map(_requirements, requested)]
    first = (
        first_needed(each, timeframe, timeframe.step_back(open_time, each.candles_after)) for each in per_indicator
    )
    return min(first_needed(REQUIREMENTS, timeframe, open_time), *first)


def indicator_values(  # noqa: PLR0913  each by its name
    series: Series,
    columns: OhlcvColumns,
    since: int,
    spec: IndicatorSpec,
    *,
    daily: OhlcvColumns | None = None,
    closed: bool = True,
) -> Iterator[IndicatorValue]:
    """Return the values of one indicator from `since` on. The last candle is the forming one unless `closed`."""
    timeframe, requirements, name = TIMEFRAMES[series.timeframe], _requirements(spec), str(spec)
    first = max(0, int(np.searchsorted(columns.open_times, since)) - requirements.candles_after)
    for block in blocks(requirements, timeframe, columns, int(columns.open_times[first])):
        for open_time, values in _block_values(spec, block, timeframe, daily):
            yield IndicatorValue(series, name, open_time, values, closed)


def _requirements(spec: IndicatorSpec) -> Requirements:
    return REQUIREMENTS_BY_SPEC.get(spec) or Requirements((spec,), candles_after=lookahead(spec))


def _block_values(
    spec: IndicatorSpec, block: Block, timeframe: Timeframe, daily: OhlcvColumns | None
) -> Iterator[tuple[int, Values]]:
    open_times = block.columns.open_times[block.first : block.end].tolist()
    if CATALOG[spec.name].has_levels:
        for index, open_time in zip(block.indices(), open_times, strict=True):
            until = block.columns.slice(0, index + 1)
            yield open_time, name_levels(compute_levels(spec, until, timeframe, daily), float(until.close[-1]))
        return
    outputs = compute(spec, block.columns, timeframe)
    lists = [column[block.first : block.end].tolist() for column in outputs.values()]
    for open_time, *values in zip(open_times, *lists, strict=True):
        yield open_time, {name: None if isnan(value) else value for name, value in zip(outputs, values, strict=True)}


def name_levels(price_levels: list[PriceLevel], close: float) -> Values:
    """Return prices by name. Of levels with the same name the nearest three to the close: `support`, `support_2`,
    `support_3`. `missing` is the number of missing candles in the period of the pivot points.
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
    """Return the values of these indicators at closed candles with open times from `since` on."""
    return [value for spec in requested for value in indicator_values(series, columns, since, spec, daily=daily)]


def forming_values(
    series: Series,
    columns: OhlcvColumns,
    candle: OhlcvColumns,
    specs: Iterable[IndicatorSpec],
    daily: OhlcvColumns | None = None,
) -> list[IndicatorValue]:
    """Return the values of these indicators at the forming candle, which follows the closed ones in `columns`."""
    open_time = int(candle.open_times[0])
    extended = OhlcvColumns(*(np.append(old, new) for old, new in zip(columns, candle, strict=True)))
    values = (
        value
        for spec in specs
        for value in indicator_values(series, extended, open_time, spec, daily=daily, closed=False)
    )
    return [value for value in values if value.open_time == open_time]
