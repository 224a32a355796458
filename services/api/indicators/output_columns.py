"""Values of one indicator along candles, with how far they can be trusted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.indicators import Asked, Columns, ahead, compute, settled, warmup
from services.core.timeframes import Timeframe


class Line(NamedTuple):
    """Values by output at these openings. `trusted`: the first whose values are those of any longer series, the one
    after the last if none is; None if all are.
    """

    time: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    trusted: int | None

    def between(self, since: int, until: int) -> "Line":
        """The part with openings in [since, until]."""
        first, end = self.time.searchsorted((since, until + 1)).tolist()
        values = {name: column[first:end] for name, column in self.values.items()}
        return Line(self.time[first:end], values, self.trusted if self.trusted and self.trusted > since else None)


def line(asked: Asked, columns: Columns, timeframe: Timeframe, since: int, until: int) -> Line:
    """The line along those of the columns that opened in [since, until]. Of the others it takes what it needs."""
    first, end = columns.time.searchsorted((since, until + 1)).tolist()
    need, stop = max(1, warmup(asked, timeframe, since)), end + ahead(asked)
    begin = max(0, first - need)
    part = columns.between(begin, stop)
    while (known := begin + settled(asked, part, timeframe)) > first and begin:
        begin = max(0, begin - need)
        part = columns.between(begin, stop)
    found = compute(asked, part, timeframe)
    values = {name: column[first - begin : end - begin] for name, column in found.items()}
    trusted = None if known <= first else _opening(columns, timeframe, min(known, end))
    return Line(columns.time[first:end], values, trusted)


def joined(parts: Sequence[Line]) -> Line:
    """Lines one after the other."""
    if len(parts) == 1:
        return parts[0]
    time = np.concatenate([part.time for part in parts])
    values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
    return Line(time, values, max((part.trusted for part in parts if part.trusted), default=None))


def _opening(columns: Columns, timeframe: Timeframe, place: int) -> int:
    if place < len(columns.time):
        return int(columns.time[place])
    return timeframe.closing(int(columns.time[-1])) if place else 0
