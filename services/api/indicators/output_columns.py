"""Outputs of one indicator along candles, and from which candle on they are trusted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.indicators import IndicatorSpec, OhlcvColumns, compute, lookahead, stable_from, warmup
from services.core.timeframes import Timeframe


class OutputColumns(NamedTuple):
    """Values by output at these open times.

    `trusted_from` is the first open time whose values are those of any longer series. It is None if all are, and the
    open time after the last one if none is.
    """

    open_times: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]
    trusted_from: int | None

    def between(self, since: int, until: int) -> "OutputColumns":
        """Return the part with open times in [since, until]."""
        first, end = self.open_times.searchsorted((since, until + 1)).tolist()
        values = {name: column[first:end] for name, column in self.values.items()}
        trusted_from = self.trusted_from if self.trusted_from and self.trusted_from > since else None
        return OutputColumns(self.open_times[first:end], values, trusted_from)


def compute_outputs(
    spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe, since: int, until: int
) -> OutputColumns:
    """Return the outputs along the candles in [since, until], computed from as many of `columns` as they need."""
    first, end = columns.open_times.searchsorted((since, until + 1)).tolist()
    needed, stop = max(1, warmup(spec, timeframe, since)), end + lookahead(spec)
    begin = max(0, first - needed)
    part = columns.slice(begin, stop)
    while (stable := begin + stable_from(spec, part, timeframe)) > first and begin:
        begin = max(0, begin - needed)
        part = columns.slice(begin, stop)
    values = {name: column[first - begin : end - begin] for name, column in compute(spec, part, timeframe).items()}
    trusted_from = None if stable <= first else _open_time_at(columns, timeframe, min(stable, end))
    return OutputColumns(columns.open_times[first:end], values, trusted_from)


def concat_outputs(parts: Sequence[OutputColumns]) -> OutputColumns:
    """Return the outputs of all parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    open_times = np.concatenate([part.open_times for part in parts])
    values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
    trusted_from = max((part.trusted_from for part in parts if part.trusted_from), default=None)
    return OutputColumns(open_times, values, trusted_from)


def _open_time_at(columns: OhlcvColumns, timeframe: Timeframe, index: int) -> int:
    if index < len(columns.open_times):
        return int(columns.open_times[index])
    return timeframe.close_time(int(columns.open_times[-1])) if index else 0
