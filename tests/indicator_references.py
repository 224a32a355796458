"""Random markets and indicators computed by pandas-ta-classic, for tests of indicators."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.core.indicators import CATALOG, IndicatorSpec, OhlcvColumns, parse_specs
from services.core.timeframes import DAY_MS, TIMEFRAMES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandas as pd  # type: ignore[import-untyped]
    import pandas_ta_classic as ta  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
M1 = TIMEFRAMES["1m"]
MIDNIGHT = 1_800_000_000_000 // DAY_MS * DAY_MS
SERIES = [name for name, known in CATALOG.items() if not known.has_levels]


def parse_spec(text: str) -> IndicatorSpec:
    (one,) = parse_specs(text)
    return one


def random_walk(count: int, seed: int, wild: float = 0.003, still: float = 0, timeframe: str = "1m") -> OhlcvColumns:
    """Return a random market in cents.

    `wild` is the standard deviation of its returns, `still` the share of candles without movement and trades.
    """
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, wild, count) * (rng.random(count) >= still) * np.where(rng.random(count) < 0.002, 15, 1)
    close = np.round(1000 * np.exp(np.cumsum(moves)), 2) + 0.01
    opened = np.r_[close[0], close[:-1]]
    high = np.round(np.maximum(opened, close) + rng.exponential(wild * 200, count) * (moves != 0), 2)
    low = np.maximum(np.round(np.minimum(opened, close) - rng.exponential(wild * 200, count) * (moves != 0), 2), 0.01)
    volume = np.round(rng.lognormal(0, 2, count) + 0.001, 3) * (moves != 0)
    time = MIDNIGHT + np.arange(count) * TIMEFRAMES[timeframe].length
    return OhlcvColumns(time, opened, high, low, close, volume)


def almost_equal(ours: Floats, theirs: Floats) -> bool:
    """Compare to 1e-9 of the column's largest value. A sum that ends at zero has rounding errors of that size."""
    scale = np.nanmax(np.abs(theirs), initial=0)
    return bool(np.allclose(ours, theirs, rtol=1e-9, atol=1e-9 * scale, equal_nan=True))


class PandasFrame:
    """Columns as series of pandas."""

    def __init__(self, all_of: OhlcvColumns) -> None:
        index = pd.to_datetime(all_of.open_times, unit="ms")
        o, h, low, c, v = (pd.Series(column, index=index) for column in all_of[1:])
        self.open, self.high, self.low, self.close, self.volume = o, h, low, c, v


def pandas_ta(
    name: str, *words: str, places: tuple[int, ...] = (), **more: Any
) -> Callable[[OhlcvColumns], list[Floats]]:
    """Return a function that computes an indicator with pandas-ta-classic, its columns in the order of Kurs."""

    def reference(all_of: OhlcvColumns) -> list[Floats]:
        frame = PandasFrame(all_of)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(ta, name)(*(getattr(frame, word) for word in words), talib=False, **more)
        table = found.to_frame() if isinstance(found, pd.Series) else found
        return [table.iloc[:, place].to_numpy(np.float64) for place in places or range(table.shape[1])]

    return reference


def sar(all_of: OhlcvColumns) -> list[Floats]:
    """Merge the columns of long and short, of which one has a value."""
    long, short = pandas_ta("psar", "high", "low", "close", places=(0, 1))(all_of)
    return [np.where(np.isnan(long), short, long)]
