"""Indicators over columns of candles."""

from typing import Any

import numpy as np

from services.core.indicators.catalog import CATALOG, Indicator, Level
from services.core.indicators.columns import Columns, Floats
from services.core.indicators.price_levels import crosses, pivot_period
from services.core.indicators.spec import Asked
from services.core.timeframes import DAY, Timeframe


def warmup(asked: Asked, timeframe: Timeframe, opening: int) -> int:
    """How many candles before the one at `opening` its value is made of: with them it is that of any longer series,
    to 1e-9. For one whose way has no bound (`psar`, `supertrend`) what is mostly enough: `settled` says whether it is.
    """
    return CATALOG[asked.name].memory.warmup(asked.parameters, timeframe, opening)


def ahead(asked: Asked) -> int:
    """How many candles after one its value is made of."""
    return CATALOG[asked.name].ahead(*asked.parameters)


def compute(asked: Asked, columns: Columns, timeframe: Timeframe) -> dict[str, Floats]:
    """Values by output, one for each candle; NaN where there is none. For one of levels ask `levels`."""
    known = CATALOG[asked.name]
    if not len(columns.time):
        return {name: np.empty(0) for name in known.outputs}
    found = _run(known, asked, columns, timeframe)
    if isinstance(found, tuple):
        return dict(zip(known.outputs, found, strict=True))
    return {known.outputs[0]: found}


def future(asked: Asked, columns: Columns) -> dict[str, Floats]:
    """Values by output, one for each opening after the last candle that something is known of; mostly there is none."""
    known = CATALOG[asked.name]
    return dict(known.future(columns, *asked.parameters)) if known.future and len(columns.time) else {}


def levels(asked: Asked, columns: Columns, timeframe: Timeframe, daily: Columns | None = None) -> list[Level]:
    """The levels as of the last candle, of an indicator of levels; none without candles. `daily`: candles of 1d from
    `daily_since` on.
    """
    known = CATALOG[asked.name]
    if not len(columns.time):
        return []
    found: list[Level] = (
        known.run(columns, *asked.parameters, timeframe, daily)
        if known.daily
        else _run(known, asked, columns, timeframe)
    )
    return found


def daily_since(asked: Asked, timeframe: Timeframe, opening: int) -> int | None:
    """The first opening of the candles of 1d that the levels as of this one are made of; None: they need none."""
    if not CATALOG[asked.name].daily or not crosses(timeframe):
        return None
    period = pivot_period(timeframe)
    return period.since(period.since(opening) - 1) - DAY  # one more shows that the first day is not missing


def settled(asked: Asked, columns: Columns, timeframe: Timeframe) -> int:
    """The first place in the columns whose value is that of any longer series; their length if there is none."""

    def run(part: Columns) -> tuple[Floats, ...]:
        return tuple(compute(asked, part, timeframe).values())

    return CATALOG[asked.name].memory.settled(run, columns, asked.parameters, timeframe)


def _run(known: Indicator, asked: Asked, columns: Columns, timeframe: Timeframe) -> Any:
    if known.timed:
        return known.run(columns, *asked.parameters, timeframe)
    return known.run(columns, *asked.parameters)
