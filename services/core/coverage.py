"""How complete a series is kept."""

from msgspec import Struct

from services.core.model import CandleGap, Series


class SeriesCoverage(Struct, frozen=True):
    """What of a series is kept for closed openings in [since, until]."""

    series: Series
    since: int
    until: int
    expected: int
    present: int
    empty: int
    revised: int
    missing: tuple[tuple[int, int], ...]  # runs of openings, both ends inclusive
    gaps: tuple[CandleGap, ...]  # that touch the range, oldest first
