"""Indicators over columns of candles."""

from typing import Any

import numpy as np

from services.core.indicators.catalog import CATALOG, Indicator, PriceLevel
from services.core.indicators.columns import Floats, OhlcvColumns
from services.core.indicators.price_levels import pivot_period, straddles_periods
from services.core.indicators.spec import IndicatorSpec
from services.core.timeframes import DAY_MS, Timeframe


def warmup(spec: IndicatorSpec, timeframe: Timeframe, open_time: int) -> int:
    """How many candles before the one at `opening` its value is made of: with them it is that of any longer series,
    to 1e-9. For one whose way has no bound (`psar`, `supertrend`) what is mostly enough: `settled` says whether it is.
    """
    return CATALOG[spec.name].lookback.warmup(spec.parameters, timeframe, open_time)


def lookahead(spec: IndicatorSpec) -> int:
    """How many candles after one its value is made of."""
    return CATALOG[spec.name].lookahead(*spec.parameters)


def compute(spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe) -> dict[str, Floats]:
    """Values by output, one for each candle; NaN where there is none. For one of levels ask `levels`."""
    known = CATALOG[spec.name]
    if not len(columns.open_times):
        return {name: np.empty(0) for name in known.outputs}
    found = _call(known, spec, columns, timeframe)
    if isinstance(found, tuple):
        return dict(zip(known.outputs, found, strict=True))
    return {known.outputs[0]: found}


def future_values(spec: IndicatorSpec, columns: OhlcvColumns) -> dict[str, Floats]:
    """Values by output, one for each opening after the last candle that something is known of; mostly there is none."""
    known = CATALOG[spec.name]
    return dict(known.future(columns, *spec.parameters)) if known.future and len(columns.open_times) else {}


def compute_levels(
    spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe, daily: OhlcvColumns | None = None
) -> list[PriceLevel]:
    """The levels as of the last candle, of an indicator of levels; none without candles. `daily`: candles of 1d from
    `daily_since` on.
    """
    known = CATALOG[spec.name]
    if not len(columns.open_times):
        return []
    found: list[PriceLevel] = (
        known.compute(columns, *spec.parameters, timeframe, daily)
        if known.uses_daily
        else _call(known, spec, columns, timeframe)
    )
    return found


def daily_since(spec: IndicatorSpec, timeframe: Timeframe, open_time: int) -> int | None:
    """The first opening of the candles of 1d that the levels as of this one are made of; None: they need none."""
    if not CATALOG[spec.name].uses_daily or not straddles_periods(timeframe):
        return None
    period = pivot_period(timeframe)
    return period.start_of(period.start_of(open_time) - 1) - DAY_MS  # one more shows that the first day is not missing


def stable_from(spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe) -> int:
    """The first place in the columns whose value is that of any longer series; their length if there is none."""

    def run(part: OhlcvColumns) -> tuple[Floats, ...]:
        return tuple(compute(spec, part, timeframe).values())

    return CATALOG[spec.name].lookback.stable_from(run, columns, spec.parameters, timeframe)


def _call(indicator: Indicator, spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe) -> Any:
    if indicator.uses_timeframe:
        return indicator.compute(columns, *spec.parameters, timeframe)
    return indicator.compute(columns, *spec.parameters)
