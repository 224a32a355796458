"""Which candles a value is computed from: the same for a whole block of openings, so that it depends neither on where
the candles at hand begin nor on what else is asked for."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.indicators import IndicatorSpec, OhlcvColumns, daily_since, warmup
from services.core.timeframes import Timeframe

BLOCK_CANDLES = 100  # openings


class Requirements(NamedTuple):
    """Indicators, and at how many candles before and after the one that is asked for they are looked at too."""

    specs: tuple[IndicatorSpec, ...]
    candles_before: int = 0
    candles_after: int = 0

    def daily_since(self, timeframe: Timeframe, open_time: int) -> int | None:
        """The first opening of the candles of 1d that levels as of this one are made of; None: they need none."""
        return min((since for one in self.specs if (since := daily_since(one, timeframe, open_time))), default=None)


class Block(NamedTuple):
    """Candles that belong together: those in the places [first, end) are of one block, the others around it."""

    columns: OhlcvColumns
    first: int
    end: int

    def indices(self) -> range:
        """Those of the block."""
        return range(self.first, self.end)


def block_start(timeframe: Timeframe, open_time: int) -> int:
    """The first opening of the block that holds this one. All months are one."""
    if not timeframe.length:
        return timeframe.open_time(EARLIEST_CANDLE_MS)
    length = timeframe.length * BLOCK_CANDLES
    return (open_time - timeframe.offset) // length * length + timeframe.offset


def first_needed(requirements: Requirements, timeframe: Timeframe, open_time: int) -> int:
    """The first opening that values at this one are computed from."""
    return _first_needed(requirements, timeframe, block_start(timeframe, open_time))


@lru_cache(1000)
def _first_needed(requirements: Requirements, timeframe: Timeframe, start: int) -> int:
    count = max(warmup(asked, timeframe, start) for asked in requirements.specs) + requirements.candles_before
    return max(EARLIEST_CANDLE_MS, timeframe.step_back(start, count))


def blocks(requirements: Requirements, timeframe: Timeframe, columns: OhlcvColumns, since: int) -> Iterator[Block]:
    """What all values with openings from `since` on are computed from, block by block."""
    time = columns.open_times
    place = int(np.searchsorted(time, since))
    while place < len(time):
        opening = int(time[place])
        end = _block_end(timeframe, time, place)
        first = min(place, int(np.searchsorted(time, first_needed(requirements, timeframe, opening))))
        yield Block(columns.slice(first, min(end + requirements.candles_after, len(time))), place - first, end - first)
        place = end


def _block_end(timeframe: Timeframe, open_times: NDArray[np.int64], index: int) -> int:
    if not timeframe.length:
        return len(open_times)
    after = block_start(timeframe, int(open_times[index])) + timeframe.length * BLOCK_CANDLES
    return int(np.searchsorted(open_times, after))
