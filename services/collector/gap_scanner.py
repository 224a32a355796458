"""What of one series is missing in the store, and when to look again."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.core import history_depth, ranges
from services.core.backoff import delays
from services.core.bounds import OPENINGS
from services.core.clocks import MARGIN
from services.core.exchange import Exchange
from services.core.model import Hole, HoleState, Series
from services.core.ranges import Run
from services.core.timeframes import TIMEFRAMES
from services.ports import CandleReader

SETTLING = 10_000  # ms after a bar's close in which it may still come by itself
LATER = 3  # times as long for bars that are rolled up from others
FIRST_TRY, LAST_TRY = 3, 600  # seconds before what is missing is asked for again
DOUBT = 600_000  # ms after a bar's close; what the exchange does not have then, it does not have
WHOLE = 3_600_000  # ms between two looks at all that is kept
SECOND_THOUGHTS = 86_400_000  # ms in which what was absent is asked for again, at such a look


class Found(NamedTuple):
    """What a look found."""

    since: int  # the first opening that should be kept: what the exchange does not have is left out
    expected: int
    missing: Sequence[Run]  # closed openings without a candle, that the exchange should have
    asked: Sequence[Run]  # what to ask the exchange for
    holes: Sequence[Hole]  # that nobody has noticed yet


class Backlog:
    """One series of an exchange that has candles of the `given` timeframes."""

    def __init__(self, series: Series, store: CandleReader, exchange: Exchange, given: frozenset[str]) -> None:
        self.series, self.timeframe = series, TIMEFRAMES[series.timeframe]
        self.due = 0  # when to look next
        self._store, self._exchange, self._given = store, exchange, given
        self._last = 0  # when it was looked at
        self._looked = self._well = 0  # when everything was looked at; up to where all is well
        self._tries: Iterator[float] | None = None

    async def look(self, now: int, bars: int, streaming: int = 0) -> Found:
        """Find out what is missing, and set when to look again. `bars` are to be kept at least.

        `streaming`: since when bars come by themselves as they close; what closed before that does not.
        """
        if self._went_back(now):
            self._looked = self._well = 0
        self._last = now
        ripe = max(now - SETTLING, min(now, streaming))
        until, whole = self.timeframe.back(self.timeframe.opening(ripe), 1), now - self._looked >= WHOLE
        first = await self.first(now)
        due = history_depth.due(self._exchange, self.series.timeframe, until, bars, self._given)
        start = min(due, until if first is None else first)
        since = start if whole else max(start, self._well)
        missing = await self._store.missing(self.series, since, until)
        doubtful = await self._doubtful(since, until)
        absent = await self._holes(HoleState.ABSENT) if missing or doubtful else []
        hopeless = [(hole.since, hole.until) for hole in absent]
        missing, doubtful = (ranges.without(self.timeframe, some, hopeless) for some in (missing, doubtful))
        again = [(h.since, h.until) for h in absent if whole and now - (h.settled or 0) < SECOND_THOUGHTS]
        self._plan(not (missing or doubtful), now, until)
        self._looked = now if whole and not (missing or doubtful) else self._looked
        holes = await self._unnoticed(missing, first, now) if missing else []
        there = ranges.without(self.timeframe, [(start, until)], hopeless)
        return Found(
            there[0][0] if there else until, self.timeframe.count(there), missing, [*missing, *doubtful, *again], holes
        )

    def is_due(self, now: int) -> bool:
        """Whether to look. Where the exchange's time is not what it seemed, what was seen before says nothing."""
        return self.due <= now or self._went_back(now)

    def _went_back(self, now: int) -> bool:
        return now < self._last - MARGIN

    def forming_since(self, now: int) -> int:
        """The first opening whose bar is part of one that is forming now, and is rolled up."""
        return history_depth.forming_since(self.series.timeframe, now, self._given)

    def _plan(self, well: bool, now: int, until: int) -> None:
        if well:
            self._tries, self._well = None, until
            settling = SETTLING * (LATER if self.timeframe.child else 1)
            closing = self.timeframe.closing(self.timeframe.opening(now - settling))
            self.due = max(closing + settling, now + int(self._exchange.history_seconds * 1000))
            return
        self._tries = self._tries or delays(FIRST_TRY, max(LAST_TRY, self._exchange.history_seconds))
        self.due = now + int(next(self._tries) * 1000)

    async def first(self, now: int) -> int | None:
        """The first opening that is kept."""
        found = await self._store.candles(self.series, 0, now, 1)
        return found[0].bar.timestamp if found else None

    async def begins_after(self, opening: int, now: int) -> bool:
        """Whether nothing as old as that is kept."""
        first = await self.first(now)
        return first is not None and opening < first

    async def _doubtful(self, since: int, until: int) -> list[Run]:
        """Minutes that no word of the exchange has confirmed."""
        if self.timeframe.child:
            return []
        return await self._store.unverified(self.series, since, until)

    async def _holes(self, state: HoleState) -> list[Hole]:
        return await self._store.holes(state, self.series)

    async def _unnoticed(self, missing: Sequence[Run], first: int | None, now: int) -> list[Hole]:
        """What is missing between candles that are kept, and should not be."""
        streamed = self._exchange.missed is not None  # else the newest bars come by asking alone
        limit = now if streamed else now - DOUBT
        late = [
            run for run in missing if first is not None and run[0] > first and self.timeframe.closing(run[1]) < limit
        ]
        known = [(hole.since, hole.until) for hole in await self._holes(HoleState.OPEN)] if late else []
        unknown = ranges.without(self.timeframe, late, known)
        return [Hole(self.series, *run, noticed=now) for run in ranges.pages(self.timeframe, unknown, OPENINGS)]
