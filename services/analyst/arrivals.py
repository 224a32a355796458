"""Which history is still on its way: what it comes to is computed once it has arrived, not at each page of it."""

from typing import NamedTuple

from services.core.model import Series, State

UNHEARD = 5_000  # ms without a word of a collector; then nobody loads anything
PATIENCE = 30_000  # ms in which nothing more arrives; then it is computed without


class _Known(NamedTuple):
    missing: int | None  # None: nobody has looked yet
    changed: int  # when it last did
    heard: int


class Arrivals:
    """What collectors say of the history they load. Times are of a clock that nobody sets."""

    def __init__(self, now: int) -> None:
        self._began = now
        self._known: dict[str, _Known] = {}

    def hear(self, state: State, now: int) -> None:
        """A collector says how it stands."""
        missing, before = state.history.missing if state.history else None, self._known.get(state.exchange)
        changed = before.changed if before and before.missing == missing else now
        self._known[state.exchange] = _Known(missing, changed, now)

    def waits(self, series: Series, now: int) -> bool:
        """Whether more of its history may arrive soon."""
        return self._loading(series.exchange, now)

    def any(self, now: int) -> bool:
        """Whether any history is being loaded."""
        return any(self._loading(exchange, now) for exchange in self._known)

    def _loading(self, exchange: str, now: int) -> bool:
        known = self._known.get(exchange)
        if known is None:
            return now - self._began < UNHEARD
        return known.missing != 0 and now - known.heard < UNHEARD and now - known.changed < PATIENCE
