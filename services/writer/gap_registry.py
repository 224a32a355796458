"""Holes: which are open, and what became of them. A hole is known by its series and its first opening."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice

from msgspec.structs import replace

from services.core.model import Candle, Hole, HoleState, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Store
from services.writer.candle_cache import Shelf

PIECE = 1_000  # openings that are looked at together


class Holes:
    """The holes of all series that matter still."""

    def __init__(self) -> None:
        self._open: defaultdict[Series, dict[int, Hole]] = defaultdict(dict)
        self._absent: defaultdict[Series, dict[int, Hole]] = defaultdict(dict)

    async def load(self, store: Store) -> None:
        """Begin with what is kept."""
        for state in (HoleState.ABSENT, HoleState.OPEN):
            self.heard(await store.holes(state))

    def heard(self, holes: Iterable[Hole]) -> list[Hole]:
        """Holes were noticed, or are known to be absent; answers those that are news."""
        return [news for hole in holes for news in self._news(hole)]

    def forget(self, series: Series, since: int) -> None:
        """Those that begin from `since` on are deleted."""
        for known in (self._open, self._absent):
            known[series] = {first: hole for first, hole in known[series].items() if first < since}

    def _news(self, hole: Hole) -> list[Hole]:
        waiting, absent = self._open[hole.series], self._absent[hole.series]
        known = absent.get(hole.since)
        if known and known.until >= hole.until:
            return []
        if hole.state is HoleState.OPEN:
            rest = _after(hole, known) if known else hole
            return [rest] if waiting.setdefault(rest.since, rest) is rest else []
        absent[hole.since] = hole
        before = waiting.pop(hole.since, None)
        if before is None or before.until <= hole.until:
            return [hole]
        return [hole, *self._news(_after(before, hole))]

    def absent(self, series: Series, opening: int) -> bool:
        """Whether the exchange itself has nothing there, or lacks what this would be rolled up from."""
        last = TIMEFRAMES[series.timeframe].closing(opening) - 1
        name: str | None = series.timeframe
        while name:
            frame, shorter = TIMEFRAMES[name], self._absent.get(series._replace(timeframe=name), {})
            if any(hole.since <= last and opening < frame.closing(hole.until) for hole in shorter.values()):
                return True
            name = frame.child
        return False

    async def settled(self, shelf: Shelf, noticed: Iterable[Hole], now: int) -> list[Hole]:
        """What the shelf's changes, and holes that were just noticed, make of the others."""
        done, series = [], {hole.series for hole in noticed}
        waiting = [hole for each in series for hole in self._open[each].values()]
        waiting += [hole for each in shelf.revalued.keys() - series for hole in _hit(shelf, self._open[each])]
        for hole in [*waiting, *(hole for each in shelf.revalued for hole in _hit(shelf, self._absent[each]))]:
            outcome = await self._outcome(shelf, hole, now)
            if outcome.state is not hole.state:
                self._open[hole.series].pop(hole.since, None)
                self._absent[hole.series].pop(hole.since, None)
                self.heard([outcome] if outcome.state is HoleState.ABSENT else ())
                done.append(outcome)
        return done

    async def _outcome(self, shelf: Shelf, hole: Hole, now: int) -> Hole:
        """Piece by piece, and no further than to the first candle that is missing: holes may be long."""
        others = [each for each in self._absent[hole.series].values() if each is not hole]
        openings = TIMEFRAMES[hole.series.timeframe].openings(hole.since, hole.until)
        last: Candle | None = None
        while piece := list(islice(openings, PIECE)):
            await shelf.need(hole.series, piece)
            for opening in piece:
                candle = shelf.get(hole.series, opening)
                if candle and candle.closed:
                    last = candle
                elif not any(each.since <= opening <= each.until for each in others):
                    return hole
        if last is None:
            return replace(hole, state=HoleState.ABSENT, settled=now)
        return replace(hole, state=HoleState.REPAIRED, settled=now, origin=last.source)


def _hit(shelf: Shelf, holes: Mapping[int, Hole]) -> list[Hole]:
    """The holes in which candles changed."""
    return [h for h in holes.values() if any(h.since <= opening <= h.until for opening in shelf.revalued[h.series])]


def _after(hole: Hole, absent: Hole) -> Hole:
    """What of an open hole lies behind an absent part at its beginning."""
    return replace(hole, since=TIMEFRAMES[hole.series.timeframe].closing(absent.until))
