"""Indicators computed over columns of candles."""

from typing import Any

import numpy as np

from services.core.indicators.catalog import CATALOG, Indicator, PriceLevel
from services.core.indicators.columns import Floats, OhlcvColumns
from services.core.indicators.price_levels import pivot_period, straddles_periods
from services.core.indicators.spec import IndicatorSpec
from services.core.timeframes import DAY_MS, Timeframe


def warmup(spec: IndicatorSpec, timeframe: Timeframe, open_time: int) -> int:
    """Return the number of candles needed before `open_time` for the value there: with them it is the value of any
    longer series, to 1e-9. For `psar`, `sar` and `supertrend` it is the number that mostly suffices; `stable_from`
    tests whether it does.
    """
    return CATALOG[spec.name].lookback.warmup(spec.parameters, timeframe, open_time)


def lookahead(spec: IndicatorSpec) -> int:
    """Return the number of later candles that a value depends on."""
    return CATALOG[spec.name].lookahead(*spec.parameters)


def compute(spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe) -> dict[str, Floats]:
    """Return the columns of an indicator by output, one value for each candle, NaN where there is none.

    Indicators with price levels have no outputs: see `compute_levels`.
    """
    indicator = CATALOG[spec.name]
    if not len(columns.open_times):
        return {name: np.empty(0) for name in indicator.outputs}
    outputs = _call(indicator, spec, columns, timeframe)
    if isinstance(outputs, tuple):
        return dict(zip(indicator.outputs, outputs, strict=True))
    return {indicator.outputs[0]: outputs}


def future_values(spec: IndicatorSpec, columns: OhlcvColumns) -> dict[str, Floats]:
    """Return values after the last candle by output. Most indicators have none."""
    indicator = CATALOG[spec.name]
    if indicator.future is None or not len(columns.open_times):
        return {}
    return dict(indicator.future(columns, *spec.parameters))


def compute_levels(
    spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe, daily: OhlcvColumns | None = None
) -> list[PriceLevel]:
    """Return the price levels of an indicator as of the last candle; without candles there are none. `daily` are
    candles of 1d from `daily_since` on.
    """
    indicator = CATALOG[spec.name]
    if not len(columns.open_times):
        return []
    price_levels: list[PriceLevel] = (
        indicator.compute(columns, *spec.parameters, timeframe, daily)
        if indicator.uses_daily
        else _call(indicator, spec, columns, timeframe)
    )
    return price_levels


def daily_since(spec: IndicatorSpec, timeframe: Timeframe, open_time: int) -> int | None:
    """Return the first open time of the candles of 1d needed for the levels as of `open_time`; None if none are."""
    if not CATALOG[spec.name].uses_daily or not straddles_periods(timeframe):
        return None
    period = pivot_period(timeframe)
    return period.start_of(period.start_of(open_time) - 1) - DAY_MS  # one more shows that the first day is not missing


def stable_from(spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe) -> int:
    """Return the first index whose value is the value of any longer series; the number of candles if there is none."""

    def outputs_of(part: OhlcvColumns) -> tuple[Floats, ...]:
        return tuple(compute(spec, part, timeframe).values())

    return CATALOG[spec.name].lookback.stable_from(outputs_of, columns, spec.parameters, timeframe)


def _call(indicator: Indicator, spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe) -> Any:
    if indicator.uses_timeframe:
        return indicator.compute(columns, *spec.parameters, timeframe)
    return indicator.compute(columns, *spec.parameters)
