"""Which history is still on its way: what it comes to is computed once it has arrived, not at each page of it."""

from collections.abc import Mapping
from typing import NamedTuple

from services.core.model import Progress, Series, State

UNHEARD = 5_000  # ms without a word of a collector; then nobody loads anything
PATIENCE = 30_000  # ms in which nothing more arrives; then it is computed without


class _Known(NamedTuple):
    history: Progress | None  # None: nobody has looked yet
    changed: int  # when there was less or more of it last
    heard: int


class Arrivals:
    """What collectors say of the history they load. Times are of a clock that nobody sets.

    `sources`: the timeframe that is asked of the exchange so as to have a series.
    """

    def __init__(self, sources: Mapping[Series, str | None], now: int) -> None:
        self._sources, self._began = sources, now
        self._known: dict[str, _Known] = {}

    def hear(self, state: State, now: int) -> None:
        """A collector says how it stands."""
        missing, before = state.history and state.history.missing, self._known.get(state.exchange)
        same = before and missing == (before.history and before.history.missing)
        self._known[state.exchange] = _Known(state.history, before.changed if before and same else now, now)

    def waits(self, series: Series, now: int) -> bool:
        """Whether more of its history may arrive soon."""
        known = self._known.get(series.exchange)
        if known is None:
            return now - self._began < UNHEARD
        if not self._loading(known, now):
            return False
        source, history = self._sources.get(series), known.history
        if history is None or history.unlisted:
            return True
        of = (each for each in history.loading if (each.instrument, each.timeframe) == (series.instrument, source))
        return any(not each.reason for each in of)

    def any(self, now: int) -> bool:
        """Whether any history is being loaded."""
        return any(self._loading(known, now) for known in self._known.values())

    @staticmethod
    def _loading(known: _Known, now: int) -> bool:
        rest = known.history is None or bool(known.history.missing or known.history.loading)
        return rest and now - known.heard < UNHEARD and now - known.changed < PATIENCE
