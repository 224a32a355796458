"""Candles as columns of floats: what indicators are computed from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.model import Candle

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Columns(NamedTuple):
    """Candles that are kept, oldest first, one place each. What is missing between them has no place."""

    time: Whole  # openings, in ms
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats  # of the base

    def between(self, first: int, end: int) -> "Columns":
        """The candles in the places [first, end)."""
        return Columns(self.time[first:end], *(column[first:end] for column in self[1:]))


def columns(candles: Sequence[Candle]) -> Columns:
    """These candles as columns."""
    bars = [candle.bar for candle in candles]
    time = np.array([bar.timestamp for bar in bars], np.int64)
    rows = [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars]
    return Columns(time, *np.ascontiguousarray(np.array(rows, np.float64).reshape(-1, 5).T))


def joined(parts: Sequence[Columns]) -> Columns:
    """Columns one after the other."""
    if not parts:
        return columns(())
    time, *prices = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Columns(time, *prices)
