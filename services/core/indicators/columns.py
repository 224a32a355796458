"""Candles as columns of floats, from which indicators are computed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.model import Candle

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class OhlcvColumns(NamedTuple):
    """Stored candles, oldest first. A missing candle has no index: its neighbours follow each other."""

    open_times: Ints  # in ms
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats  # of the base

    def slice(self, first: int, end: int) -> "OhlcvColumns":
        """Return the candles with indices in [first, end)."""
        return OhlcvColumns(self.open_times[first:end], *(column[first:end] for column in self[1:]))


def to_columns(candles: Sequence[Candle]) -> OhlcvColumns:
    """Return candles as columns."""
    bars = [candle.bar for candle in candles]
    open_times = np.array([bar.open_time for bar in bars], np.int64)
    rows = [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars]
    return OhlcvColumns(open_times, *np.ascontiguousarray(np.array(rows, np.float64).reshape(-1, 5).T))


def concat_columns(parts: Sequence[OhlcvColumns]) -> OhlcvColumns:
    """Return the candles of all parts, in their order."""
    if not parts:
        return to_columns(())
    open_times, *values = (np.concatenate(each) for each in zip(*parts, strict=True))
    return OhlcvColumns(open_times, *values)
