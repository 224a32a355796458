"""Which candles a value is computed from.

All values of one block of open times are computed from the same candles. So a value depends neither on where the loaded
candles begin nor on which other values are requested, and any process computes it to the same digit.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.indicators import IndicatorSpec, OhlcvColumns, daily_since, warmup
from services.core.timeframes import Timeframe

BLOCK_CANDLES = 100


class Requirements(NamedTuple):
    """Indicators, and the number of candles before and after an analysed one at which they are used too."""

    specs: tuple[IndicatorSpec, ...]
    candles_before: int = 0
    candles_after: int = 0

    def daily_since(self, timeframe: Timeframe, open_time: int) -> int | None:
        """Return the first open time of the candles of 1d needed for levels as of `open_time`; None if none are."""
        return min((since for spec in self.specs if (since := daily_since(spec, timeframe, open_time))), default=None)


class Block(NamedTuple):
    """Candles of one block, at the indices [first, end) of `columns`, with the candles around it that they need."""

    columns: OhlcvColumns
    first: int
    end: int

    def indices(self) -> range:
        """Return the indices of the block's own candles."""
        return range(self.first, self.end)


def block_start(timeframe: Timeframe, open_time: int) -> int:
    """Return the first open time of the block that contains `open_time`. All months are one block."""
    if not timeframe.length:
        return timeframe.open_time(EARLIEST_CANDLE_MS)
    length = timeframe.length * BLOCK_CANDLES
    return (open_time - timeframe.offset) // length * length + timeframe.offset


def first_needed(requirements: Requirements, timeframe: Timeframe, open_time: int) -> int:
    """Return the first open time of the candles from which values at `open_time` are computed."""
    return _first_needed(requirements, timeframe, block_start(timeframe, open_time))


@lru_cache(1000)
def _first_needed(requirements: Requirements, timeframe: Timeframe, start: int) -> int:
    count = max(warmup(spec, timeframe, start) for spec in requirements.specs) + requirements.candles_before
    return max(EARLIEST_CANDLE_MS, timeframe.step_back(start, count))


def blocks(requirements: Requirements, timeframe: Timeframe, columns: OhlcvColumns, since: int) -> Iterator[Block]:
    """Return the blocks with open times from `since` on, the first one from `since` only."""
    open_times = columns.open_times
    index = int(np.searchsorted(open_times, since))
    while index < len(open_times):
        end = _block_end(timeframe, open_times, index)
        needed = first_needed(requirements, timeframe, int(open_times[index]))
        first = min(index, int(np.searchsorted(open_times, needed)))
        window = columns.slice(first, min(end + requirements.candles_after, len(open_times)))
        yield Block(window, index - first, end - first)
        index = end


def _block_end(timeframe: Timeframe, open_times: NDArray[np.int64], index: int) -> int:
    if not timeframe.length:
        return len(open_times)
    next_start = block_start(timeframe, int(open_times[index])) + timeframe.length * BLOCK_CANDLES
    return int(np.searchsorted(open_times, next_start))
