"""Holes: which are open, and what became of them. A hole is known by its series and its first opening."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice

from msgspec.structs import replace

from services.core.model import Candle, CandleGap, CandleGapState, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Store
from services.writer.candle_cache import CandleCache

OPEN_TIMES_AT_ONCE = 1_000  # openings that are looked at together


class GapRegistry:
    """The holes of all series that matter still."""

    def __init__(self) -> None:
        self._open: defaultdict[Series, dict[int, CandleGap]] = defaultdict(dict)
        self._absent: defaultdict[Series, dict[int, CandleGap]] = defaultdict(dict)

    async def load(self, store: Store) -> None:
        """Begin with what is kept."""
        for state in (CandleGapState.ABSENT, CandleGapState.OPEN):
            self.register(await store.candle_gaps(state))

    def register(self, gaps: Iterable[CandleGap]) -> list[CandleGap]:
        """Holes were noticed, or are known to be absent; answers those that are news."""
        return [news for hole in gaps for news in self._register_one(hole)]

    def discard_from(self, series: Series, since: int) -> None:
        """Those that begin from `since` on are deleted."""
        for known in (self._open, self._absent):
            known[series] = {first: hole for first, hole in known[series].items() if first < since}

    def _register_one(self, gap: CandleGap) -> list[CandleGap]:
        waiting, absent = self._open[gap.series], self._absent[gap.series]
        known = absent.get(gap.since)
        if known and known.until >= gap.until:
            return []
        if gap.state is CandleGapState.OPEN:
            rest = _remainder(gap, known) if known else gap
            return [rest] if waiting.setdefault(rest.since, rest) is rest else []
        absent[gap.since] = gap
        before = waiting.pop(gap.since, None)
        if before is None or before.until <= gap.until:
            return [gap]
        return [gap, *self._register_one(_remainder(before, gap))]

    def is_absent(self, series: Series, open_time: int) -> bool:
        """Whether the exchange itself has nothing there, or lacks what this would be rolled up from."""
        last = TIMEFRAMES[series.timeframe].close_time(open_time) - 1
        name: str | None = series.timeframe
        while name:
            frame, shorter = TIMEFRAMES[name], self._absent.get(series._replace(timeframe=name), {})
            if any(hole.since <= last and open_time < frame.close_time(hole.until) for hole in shorter.values()):
                return True
            name = frame.child
        return False

    async def resolve(self, cache: CandleCache, detected: Iterable[CandleGap], now: int) -> list[CandleGap]:
        """What the shelf's changes, and holes that were just noticed, make of the others."""
        done, series = [], {hole.series for hole in detected}
        waiting = [hole for each in series for hole in self._open[each].values()]
        waiting += [
            hole for each in cache.values_changed.keys() - series for hole in _affected(cache, self._open[each])
        ]
        for hole in [
            *waiting,
            *(hole for each in cache.values_changed for hole in _affected(cache, self._absent[each])),
        ]:
            outcome = await self._resolution(cache, hole, now)
            if outcome.state is not hole.state:
                self._open[hole.series].pop(hole.since, None)
                self._absent[hole.series].pop(hole.since, None)
                self.register([outcome] if outcome.state is CandleGapState.ABSENT else ())
                done.append(outcome)
        return done

    async def _resolution(self, cache: CandleCache, gap: CandleGap, now: int) -> CandleGap:
        """Piece by piece, and no further than to the first candle that is missing: holes may be long."""
        others = [each for each in self._absent[gap.series].values() if each is not gap]
        openings = TIMEFRAMES[gap.series.timeframe].open_times(gap.since, gap.until)
        last: Candle | None = None
        while piece := list(islice(openings, OPEN_TIMES_AT_ONCE)):
            await cache.load(gap.series, piece)
            for opening in piece:
                candle = cache.get(gap.series, opening)
                if candle and candle.closed:
                    last = candle
                elif not any(each.since <= opening <= each.until for each in others):
                    return gap
        if last is None:
            return replace(gap, state=CandleGapState.ABSENT, resolved=now)
        return replace(gap, state=CandleGapState.REPAIRED, resolved=now, repaired_from=last.source)


def _affected(cache: CandleCache, gaps: Mapping[int, CandleGap]) -> list[CandleGap]:
    """The holes in which candles changed."""
    return [
        h for h in gaps.values() if any(h.since <= opening <= h.until for opening in cache.values_changed[h.series])
    ]


def _remainder(gap: CandleGap, absent: CandleGap) -> CandleGap:
    """What of an open hole lies behind an absent part at its beginning."""
    return replace(gap, since=TIMEFRAMES[gap.series.timeframe].close_time(absent.until))
