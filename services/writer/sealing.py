"""Days are sealed when they are complete; a later correction renews its seal and all that follow.

A day of which candles are missing that nobody brings is passed over after a while, and sealed once it is complete.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from services.core.model import Candle, Hole, Origin, Series
from services.core.seals import GENESIS, Seal, digest, renewed, sealed
from services.core.timeframes import DAY, TIMEFRAMES
from services.ports import Store
from services.writer.candle_cache import FOREVER, Shelf
from services.writer.gap_registry import Holes

CANDLES_AT_ONCE = 3_000  # that are loaded for it
PATIENCE = 3_600_000  # ms after a day's end in which the exchange's own word on it is waited for
GIVEN_UP = DAY + PATIENCE  # ms after a day's end; for a day the exchange is asked again for what it did not have
DAYS_AT_ONCE = 400  # that are looked at in one step: the writer does nothing else meanwhile
PASSED_AT_ONCE = 50  # of those that were passed over
log = logging.getLogger(__name__)


class Sealing:
    """The seals of all series."""

    def __init__(self, store: Store, shelf: Shelf, holes: Holes) -> None:
        self._store, self._shelf, self._holes = store, shelf, holes
        self._chains: dict[Series, list[Seal]] = {}  # oldest first
        self._looked: dict[Series, int] = {}  # the first day that was not looked at yet
        self._passed: dict[Series, set[int]] = {}  # days without a seal that are to be looked at again
        self._changing: set[Series] = set()  # of which such days have changed since the last look

    async def corrected(self, now: int) -> list[Seal]:
        """The seals that the shelf's changes make anew. Days that were passed over wait until no more changes come."""
        made = []
        for series, openings in self._shelf.revalued.items():
            chain = await self._chain(series)
            end = max(chain[-1].day + DAY if chain else 0, self._looked.get(series, 0))
            if min(openings) >= end:  # nearly all
                continue
            sealed_days = {seal.day for seal in chain}
            days = {opening // DAY * DAY for opening in openings}
            if corrected := days & sealed_days:
                made += await self._chained_again(series, min(corrected), now)
            if passed := {day for day in days - sealed_days if day < end}:
                self._changing.add(series)
                self._note(series, passed)
        return made

    async def due(self, series: Series, first: int, last: int, now: int) -> list[Seal]:
        """Seals of complete days after the last sealed one. `first` and `last` are the ends of what is kept."""
        chain, made = await self._chain(series), await self._completed(series, first, now)
        if made:
            return made
        day = max(chain[-1].day + DAY if chain else first // DAY * DAY, self._looked.get(series, 0))
        previous = chain[-1].digest if chain else GENESIS
        until = min(now - DAY, last, day + (DAYS_AT_ONCE - 1) * DAY)
        async for each, candles in self._days(series, day, until):
            if not self._complete(series, each, candles, now):
                if now < each + DAY + GIVEN_UP:
                    break
            elif candles:
                made.append(sealed(series, each, candles, previous, now))
                previous = made[-1].digest
            self._looked[series] = each + DAY
        return made

    def forget(self, series: Series) -> None:
        """Its seals are read again."""
        self._chains.pop(series, None)
        self._looked.pop(series, None)
        self._passed.pop(series, None)

    def lacking(self, holes: Iterable[Hole]) -> None:
        """The exchange has nothing there: days that were passed over may be complete without."""
        for hole in holes:
            for series in [each for each in self._looked if each[:2] == hole.series[:2]]:
                first = TIMEFRAMES[series.timeframe].opening(hole.since) // DAY * DAY
                until = min(hole.until + 1, self._looked[series])
                self._note(series, range(first, until, DAY))

    def kept(self, seals: Iterable[Seal]) -> None:
        """They are saved."""
        for seal in seals:
            chain = {known.day: known for known in self._chains.get(seal.series, [])} | {seal.day: seal}
            self._chains[seal.series] = [chain[day] for day in sorted(chain)]

    def _note(self, series: Series, days: Iterable[int]) -> None:
        """Look at these again. Before the first look it is not known which others there are."""
        if series in self._passed:
            self._passed[series].update(days)

    async def _completed(self, series: Series, first: int, now: int) -> list[Seal]:
        """New seals from the first day on that was passed over, and has become complete since."""
        chain = await self._chain(series)
        if series not in self._passed:
            self._passed[series] = set(_unsealed(series, first, chain))  # each may have changed since
        if series in self._changing:
            self._changing.discard(series)
            return []
        waiting = self._passed[series]
        waiting.difference_update(seal.day for seal in chain)
        for day in sorted(waiting)[:PASSED_AT_ONCE]:
            waiting.discard(day)
            async for each, candles in self._days(series, day, day):
                if candles and self._complete(series, each, candles, now):
                    self._looked[series] = min(day, self._looked.get(series, day))
                    return await self._chained_again(series, day, now) if chain else []
        return []

    async def _chain(self, series: Series) -> list[Seal]:
        if series not in self._chains:
            self._chains[series] = await self._store.seals(series, 0, FOREVER)
        return self._chains[series]

    async def _chained_again(self, series: Series, day: int, now: int) -> list[Seal]:
        """New revisions of the seals from `day` on, as far as they change.

        They end before a day that is not as it was sealed although nobody corrected it: a new seal would hide the edit.
        """
        chain = await self._chain(series)
        old = {seal.day: seal for seal in chain}
        corrected = {opening // DAY * DAY for opening in self._shelf.revalued.get(series, ())}
        previous, made = next((seal.digest for seal in reversed(chain) if seal.day < day), GENESIS), list[Seal]()
        async for each, candles in self._days(series, day, chain[-1].day):
            if each in old and each not in corrected and digest(old[each].previous, candles) != old[each].digest:
                log.error("%s %s %s was edited by somebody else: see kurs verify", *series)
                break
            if candles and (each in old or self._complete(series, each, candles, now)):
                new = sealed(series, each, candles, previous, now)
                made += filter(None, [renewed(old.get(each), new)])
                previous = new.digest
        return made

    async def _days(self, series: Series, since: int, until: int) -> AsyncIterator[tuple[int, list[Candle]]]:
        """The days that begin in [since, until], each with its closed candles, those that are not saved yet too."""
        changed = {opening: candle for (name, opening), candle in self._shelf.changed.items() if name == series}
        step = max(1, CANDLES_AT_ONCE * (TIMEFRAMES[series.timeframe].length or DAY) // DAY) * DAY
        for start in range(since, until + 1, step):
            end = min(start + step, until // DAY * DAY + DAY)
            rows = await self._store.candles(series, start, end - 1)
            found = {row.bar.timestamp: row for row in rows}
            found |= {opening: candle for opening, candle in changed.items() if start <= opening < end}
            for day in range(start, end, DAY):
                openings = TIMEFRAMES[series.timeframe].openings(day, day + DAY - 1)
                yield day, [found[opening] for opening in openings if opening in found and found[opening].closed]

    def _complete(self, series: Series, day: int, candles: Sequence[Candle], now: int) -> bool:
        """Whether nothing of a day is missing, nor the exchange's word on it."""
        have = {candle.bar.timestamp for candle in candles}
        missing = (o for o in TIMEFRAMES[series.timeframe].openings(day, day + DAY - 1) if o not in have)
        if not all(self._holes.absent(series, opening) for opening in missing):
            return False
        return now >= day + DAY + PATIENCE or all(candle.source is not Origin.TICKS for candle in candles)


def _unsealed(series: Series, first: int, chain: Sequence[Seal]) -> Iterator[int]:
    """The days from the first that is kept to the last that is sealed that have candles and no seal."""
    timeframe, expected = TIMEFRAMES[series.timeframe], first // DAY * DAY
    for seal in chain:
        for day in range(expected, seal.day, DAY):
            if any(timeframe.openings(day, day + DAY - 1)):
                yield day
        expected = seal.day + DAY
