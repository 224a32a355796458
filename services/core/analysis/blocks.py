"""Which candles a value is computed from: the same for a whole block of openings, so that it depends neither on where
the candles at hand begin nor on what else is asked for."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.history_depth import BEGINNING
from services.core.indicators import Asked, Columns, daily_since, warmup
from services.core.timeframes import Timeframe

BLOCK = 100  # openings


class Need(NamedTuple):
    """Indicators, and at how many candles before and after the one that is asked for they are looked at too."""

    asked: tuple[Asked, ...]
    back: int = 0
    ahead: int = 0

    def daily_since(self, timeframe: Timeframe, opening: int) -> int | None:
        """The first opening of the candles of 1d that levels as of this one are made of; None: they need none."""
        return min((since for one in self.asked if (since := daily_since(one, timeframe, opening))), default=None)


class Part(NamedTuple):
    """Candles that belong together: those in the places [first, end) are of one block, the others around it."""

    columns: Columns
    first: int
    end: int

    def places(self) -> range:
        """Those of the block."""
        return range(self.first, self.end)


def block(timeframe: Timeframe, opening: int) -> int:
    """The first opening of the block that holds this one. All months are one."""
    if not timeframe.length:
        return timeframe.opening(BEGINNING)
    length = timeframe.length * BLOCK
    return (opening - timeframe.origin) // length * length + timeframe.origin


def reach(need: Need, timeframe: Timeframe, opening: int) -> int:
    """The first opening that values at this one are computed from."""
    return _reach(need, timeframe, block(timeframe, opening))


@lru_cache(1000)
def _reach(need: Need, timeframe: Timeframe, start: int) -> int:
    count = max(warmup(asked, timeframe, start) for asked in need.asked) + need.back
    return max(BEGINNING, timeframe.back(start, count))


def parts(need: Need, timeframe: Timeframe, columns: Columns, since: int) -> Iterator[Part]:
    """What all values with openings from `since` on are computed from, block by block."""
    time = columns.time
    place = int(np.searchsorted(time, since))
    while place < len(time):
        opening = int(time[place])
        end = _end(timeframe, time, place)
        first = min(place, int(np.searchsorted(time, reach(need, timeframe, opening))))
        yield Part(columns.between(first, min(end + need.ahead, len(time))), place - first, end - first)
        place = end


def _end(timeframe: Timeframe, time: NDArray[np.int64], place: int) -> int:
    if not timeframe.length:
        return len(time)
    after = block(timeframe, int(time[place])) + timeframe.length * BLOCK
    return int(np.searchsorted(time, after))
