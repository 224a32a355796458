"""Indicators over columns of candles."""

from typing import Any

import numpy as np

from services.core.indicators.asked import Asked
from services.core.indicators.catalog import CATALOG, Level
from services.core.indicators.columns import Columns, Floats
from services.core.timeframes import Timeframe


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
    outputs = CATALOG[asked.name].outputs
    if not columns.time.size:
        return {name: np.empty(0) for name in outputs}
    found = _run(asked, columns, timeframe)
    return dict(zip(outputs, found if isinstance(found, tuple) else (found,), strict=True))


def levels(asked: Asked, columns: Columns, timeframe: Timeframe) -> list[Level]:
    """The levels as of the last candle, of an indicator of levels; none without candles."""
    found: list[Level] = _run(asked, columns, timeframe) if columns.time.size else []
    return found


def settled(asked: Asked, columns: Columns, timeframe: Timeframe) -> int:
    """The first place in the columns whose value is that of any longer series; their length if there is none."""

    def run(part: Columns) -> tuple[Floats, ...]:
        return tuple(compute(asked, part, timeframe).values())

    return CATALOG[asked.name].memory.settled(run, columns, asked.parameters, timeframe)


def _run(asked: Asked, columns: Columns, timeframe: Timeframe) -> Any:
    known = CATALOG[asked.name]
    return known.run(columns, *asked.parameters, *((timeframe,) if known.timed else ()))
