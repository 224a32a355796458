"""Candle gaps: which are open, which are absent at the exchange, and how open ones are resolved.

A gap is known by its series and its first open time, which are its key in the store.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from msgspec.structs import replace

from services.core.model import Candle, CandleGap, CandleGapState, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Store
from services.writer.candle_cache import StoredCandleCache

OPEN_TIMES_AT_ONCE = 1_000  # that are checked with one load, since a gap may be long


class GapSet:
    """Gaps of one series, at most one with each first open time. They may overlap."""

    def __init__(self) -> None:
        self._by_start: dict[int, CandleGap] = {}

    def __iter__(self) -> Iterator[CandleGap]:
        return iter(self._by_start.values())

    def starting_at(self, open_time: int) -> CandleGap | None:
        """Return the gap with this first open time."""
        return self._by_start.get(open_time)

    def add(self, gap: CandleGap) -> None:
        """Add a gap, in place of the one with the same first open time."""
        self._by_start[gap.since] = gap

    def remove(self, gap: CandleGap) -> None:
        """Remove the gap with this gap's first open time, if there is one."""
        self._by_start.pop(gap.since, None)

    def discard_from(self, since: int) -> None:
        """Remove the gaps that begin at `since` or later."""
        self._by_start = {start: gap for start, gap in self._by_start.items() if start < since}

    def touching(self, open_times: Collection[int]) -> list[CandleGap]:
        """Return the gaps that hold any of these open times."""
        return [gap for gap in self if any(gap.since <= open_time <= gap.until for open_time in open_times)]

    def covers(self, open_time: int, *, without: CandleGap) -> bool:
        """Return whether a gap other than `without` holds this open time."""
        return any(gap.since <= open_time <= gap.until for gap in self if gap is not without)

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether a bar of a gap reaches into the time from `first` to `last`, in ms."""
        return any(gap.since <= last and first < TIMEFRAMES[gap.series.timeframe].close_time(gap.until) for gap in self)

    def subtract_from(self, gap: CandleGap) -> CandleGap | None:
        """Return what is left of a gap behind those that begin where it does; None if that is nothing."""
        timeframe = TIMEFRAMES[gap.series.timeframe]
        while covering := self.starting_at(gap.since):
            if covering.until >= gap.until:
                return None
            gap = replace(gap, since=timeframe.close_time(covering.until))
        return gap


class GapRegistry:
    """Open and absent gaps of all series."""

    def __init__(self) -> None:
        self._open: defaultdict[Series, GapSet] = defaultdict(GapSet)
        self._absent: defaultdict[Series, GapSet] = defaultdict(GapSet)

    async def load(self, store: Store) -> None:
        """Load the gaps of the store."""
        for state in (CandleGapState.ABSENT, CandleGapState.OPEN):
            self.register(await store.candle_gaps(state))

    def register(self, gaps: Iterable[CandleGap]) -> list[CandleGap]:
        """Add gaps that were detected, or are absent at the exchange. Return those that are new."""
        return [
            new
            for gap in gaps
            for new in (self._add_open(gap) if gap.state is CandleGapState.OPEN else self._add_absent(gap))
        ]

    def _add_open(self, gap: CandleGap) -> list[CandleGap]:
        """Add an open gap without its absent beginning, unless an open gap begins there."""
        rest = self._absent[gap.series].subtract_from(gap)
        if rest is None or self._open[gap.series].starting_at(rest.since):
            return []
        self._open[gap.series].add(rest)
        return [rest]

    def _add_absent(self, gap: CandleGap) -> list[CandleGap]:
        """Add an absent gap, unless it is part of one. An open gap with the same beginning is shortened by it."""
        previous = self._absent[gap.series].starting_at(gap.since)
        if previous and previous.until >= gap.until:
            return []
        self._absent[gap.series].add(gap)
        shortened = self._open[gap.series].starting_at(gap.since)
        if shortened is None:
            return [gap]
        self._open[gap.series].remove(shortened)
        return [gap, *self._add_open(shortened)]

    def discard_from(self, series: Series, since: int) -> None:
        """Remove the gaps of a series that begin at `since` or later."""
        for gaps in (self._open, self._absent):
            gaps[series].discard_from(since)

    def is_absent(self, series: Series, open_time: int) -> bool:
        """Return whether the exchange has no such candle, or lacks one that it is rolled up from."""
        last = TIMEFRAMES[series.timeframe].close_time(open_time) - 1
        name: str | None = series.timeframe
        while name:
            absent = self._absent.get(series._replace(timeframe=name))
            if absent and absent.overlaps(open_time, last):
                return True
            name = TIMEFRAMES[name].child
        return False

    async def resolve(self, cache: StoredCandleCache, detected: Iterable[CandleGap], now: int) -> list[CandleGap]:
        """Return the gaps that are resolved by the cache's changes, or of whose series gaps were just detected."""
        resolved = []
        for gap in self._affected(cache, {gap.series for gap in detected}):
            outcome = await self._resolution(cache, gap, now)
            if outcome.state is not gap.state:
                self._open[gap.series].remove(gap)
                self._absent[gap.series].remove(gap)
                self.register([outcome] if outcome.state is CandleGapState.ABSENT else ())
                resolved.append(outcome)
        return resolved

    def _affected(self, cache: StoredCandleCache, series_with_new: Collection[Series]) -> list[CandleGap]:
        changed = cache.values_changed
        waiting = [gap for series in series_with_new for gap in self._open[series]]
        waiting += [gap for s in changed.keys() - series_with_new for gap in self._open[s].touching(changed[s])]
        return [*waiting, *(gap for series in changed for gap in self._absent[series].touching(changed[series]))]

    async def _resolution(self, cache: StoredCandleCache, gap: CandleGap, now: int) -> CandleGap:
        """Return the gap as repaired or absent if each of its candles is there or absent, and as it is if not."""
        absent = self._absent[gap.series]
        open_times = TIMEFRAMES[gap.series.timeframe].open_times(gap.since, gap.until)
        last: Candle | None = None
        while chunk := list(islice(open_times, OPEN_TIMES_AT_ONCE)):
            await cache.load(gap.series, chunk)
            for open_time in chunk:
                candle = cache.get(gap.series, open_time)
                if candle and candle.closed:
                    last = candle
                elif not absent.covers(open_time, without=gap):
                    return gap
        if last is None:
            return replace(gap, state=CandleGapState.ABSENT, resolved=now)
        return replace(gap, state=CandleGapState.REPAIRED, resolved=now, repaired_from=last.source)
