"""Days are sealed when they are complete; a later correction renews its seal and all that follow."""

import logging
from collections.abc import AsyncIterator, Iterable, Sequence

from services.core.model import Candle, Origin, Series
from services.core.seals import GENESIS, Seal, digest, renewed, sealed
from services.core.timeframes import DAY, TIMEFRAMES
from services.ports import Store
from services.writer.holes import Holes
from services.writer.shelf import FOREVER, Shelf

SEALS_AT_ONCE = 400
CANDLES_AT_ONCE = 3_000  # that are loaded for it
PATIENCE = 3_600_000  # ms after a day's end in which the exchange's own word on it is waited for
log = logging.getLogger(__name__)


class Sealing:
    """The seals of all series."""

    def __init__(self, store: Store, shelf: Shelf, holes: Holes) -> None:
        self._store, self._shelf, self._holes = store, shelf, holes
        self._chains: dict[Series, list[Seal]] = {}  # oldest first
        self._first: dict[Series, int] = {}  # the first opening that was kept at the last look

    async def corrected(self, now: int) -> list[Seal]:
        """The seals that the shelf's changes make anew."""
        made = []
        for series, openings in self._shelf.revalued.items():
            chain = await self._chain(series)
            if chain and min(openings) < chain[-1].day + DAY and max(openings) >= chain[0].day:
                day = max(chain[0].day, min(openings) // DAY * DAY)
                made += await self._chained_again(series, day, now)
        return made

    async def due(self, series: Series, first: int, now: int) -> list[Seal]:
        """Seals of complete days after the last sealed one. `first` is the first opening that is kept."""
        chain, beginning = await self._chain(series), _first_whole_day(series, first)
        if chain and beginning < chain[0].day and self._first.get(series) == first:
            return await self._chained_again(series, beginning, now)  # older candles came, and that has ended
        self._first[series] = first
        day, made = chain[-1].day + DAY if chain else beginning, list[Seal]()
        previous = chain[-1].digest if chain else GENESIS
        async for each, candles in self._days(series, day, now - DAY):
            if len(made) == SEALS_AT_ONCE or not self._complete(series, each, candles, now):
                break
            if candles:
                made.append(sealed(series, each, candles, previous, now))
                previous = made[-1].digest
        return made

    def forget(self, series: Series) -> None:
        """Its seals are read again."""
        self._chains.pop(series, None)

    def kept(self, seals: Iterable[Seal]) -> None:
        """They are saved."""
        for seal in seals:
            chain = {known.day: known for known in self._chains.get(seal.series, [])} | {seal.day: seal}
            self._chains[seal.series] = [chain[day] for day in sorted(chain)]

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


def _first_whole_day(series: Series, first: int) -> int:
    """The first day of which no candle can be missing before `first`."""
    day = first // DAY * DAY
    return day + DAY if any(TIMEFRAMES[series.timeframe].openings(day, first - 1)) else day
