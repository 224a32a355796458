"""Candles as columns of floats: what indicators are computed from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.model import Candle

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class OhlcvColumns(NamedTuple):
    """Candles that are kept, oldest first, one place each. What is missing between them has no place."""

    open_times: Ints  # openings, in ms
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats  # of the base

    def slice(self, first: int, end: int) -> "OhlcvColumns":
        """The candles in the places [first, end)."""
        return OhlcvColumns(self.open_times[first:end], *(column[first:end] for column in self[1:]))


def to_columns(candles: Sequence[Candle]) -> OhlcvColumns:
    """These candles as columns."""
    bars = [candle.bar for candle in candles]
    time = np.array([bar.open_time for bar in bars], np.int64)
    rows = [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars]
    return OhlcvColumns(time, *np.ascontiguousarray(np.array(rows, np.float64).reshape(-1, 5).T))


def concat_columns(parts: Sequence[OhlcvColumns]) -> OhlcvColumns:
    """Columns one after the other."""
    if not parts:
        return to_columns(())
    time, *prices = (np.concatenate(each) for each in zip(*parts, strict=True))
    return OhlcvColumns(time, *prices)
