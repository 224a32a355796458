"""Values of one indicator along candles, with how far they can be trusted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.indicators import IndicatorSpec, OhlcvColumns, compute, lookahead, stable_from, warmup
from services.core.timeframes import Timeframe


class OutputColumns(NamedTuple):
    """Values by output at these openings. `trusted`: the first whose values are those of any longer series, the one
    after the last if none is; None if all are.
    """

    open_times: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    trusted_from: int | None

    def between(self, since: int, until: int) -> "OutputColumns":
        """The part with openings in [since, until]."""
        first, end = self.open_times.searchsorted((since, until + 1)).tolist()
        values = {name: column[first:end] for name, column in self.values.items()}
        return OutputColumns(
            self.open_times[first:end],
            values,
            self.trusted_from if self.trusted_from and self.trusted_from > since else None,
        )


def compute_outputs(
    spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe, since: int, until: int
) -> OutputColumns:
    """The line along those of the columns that opened in [since, until]. Of the others it takes what it needs."""
    first, end = columns.open_times.searchsorted((since, until + 1)).tolist()
    need, stop = max(1, warmup(spec, timeframe, since)), end + lookahead(spec)
    begin = max(0, first - need)
    part = columns.slice(begin, stop)
    while (known := begin + stable_from(spec, part, timeframe)) > first and begin:
        begin = max(0, begin - need)
        part = columns.slice(begin, stop)
    found = compute(spec, part, timeframe)
    values = {name: column[first - begin : end - begin] for name, column in found.items()}
    trusted = None if known <= first else _open_time_at(columns, timeframe, min(known, end))
    return OutputColumns(columns.open_times[first:end], values, trusted)


def concat_outputs(parts: Sequence[OutputColumns]) -> OutputColumns:
    """Lines one after the other."""
    if len(parts) == 1:
        return parts[0]
    time = np.concatenate([part.open_times for part in parts])
    values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
    return OutputColumns(time, values, max((part.trusted_from for part in parts if part.trusted_from), default=None))


def _open_time_at(columns: OhlcvColumns, timeframe: Timeframe, index: int) -> int:
    if index < len(columns.open_times):
        return int(columns.open_times[index])
    return timeframe.close_time(int(columns.open_times[-1])) if index else 0
