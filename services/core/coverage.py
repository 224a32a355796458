"""How complete a series is stored."""

from msgspec import Struct

from services.core.model import CandleGap, Series


class SeriesCoverage(Struct, frozen=True):
    """What is stored of a series for closed candles with open times in [since, until]."""

    series: Series
    since: int
    until: int
    expected: int
    present: int
    empty: int
    revised: int
    missing: tuple[tuple[int, int], ...]  # ranges of open times, both ends inclusive
    gaps: tuple[CandleGap, ...]  # that overlap the range, oldest first
