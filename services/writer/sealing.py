"""Days are sealed when they are complete; a later correction renews its seal and all that follow.

A day of which candles are missing that nobody brings is passed over after a while, and sealed once it is complete.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from services.core.model import Candle, CandleGap, CandleSource, Series
from services.core.seals import GENESIS, Seal, digest, new_seal, next_revision
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.ports import Store
from services.writer.candle_cache import CandleCache
from services.writer.gap_registry import GapRegistry

MAX_LOADED_CANDLES = 3_000  # that are loaded for it
EXCHANGE_CONFIRM_MS = 3_600_000  # ms after a day's end in which the exchange's own word on it is waited for
SKIP_INCOMPLETE_MS = (
    DAY_MS + EXCHANGE_CONFIRM_MS
)  # ms after a day's end; for a day the exchange is asked again for what it did not have
MAX_DAYS_PER_STEP = 400  # that are looked at in one step: the writer does nothing else meanwhile
MAX_SKIPPED_DAYS_PER_STEP = 50  # of those that were passed over
log = logging.getLogger(__name__)


class Sealer:
    """The seals of all series."""

    def __init__(self, store: Store, cache: CandleCache, gaps: GapRegistry) -> None:
        self._store, self._cache, self._gaps = store, cache, gaps
        self._chains: dict[Series, list[Seal]] = {}  # oldest first
        self._checked_until: dict[Series, int] = {}  # the first day that was not looked at yet
        self._skipped_days: dict[Series, set[int]] = {}  # days without a seal that are to be looked at again
        self._still_changing: set[Series] = set()  # of which such days have changed since the last look

    async def reseal_corrected(self, now: int) -> list[Seal]:
        """The seals that the shelf's changes make anew. Days that were passed over wait until no more changes come."""
        made = []
        for series, openings in self._cache.values_changed.items():
            chain = await self._chain(series)
            end = max(chain[-1].day + DAY_MS if chain else 0, self._checked_until.get(series, 0))
            if min(openings) >= end:  # nearly all
                continue
            sealed_days = {seal.day for seal in chain}
            days = {opening // DAY_MS * DAY_MS for opening in openings}
            if corrected := days & sealed_days:
                made += await self._reseal_from(series, min(corrected), now)
            if passed := {day for day in days - sealed_days if day < end}:
                self._still_changing.add(series)
                self._recheck(series, passed)
        return made

    async def seal_complete_days(self, series: Series, first: int, last: int, now: int) -> list[Seal]:
        """Seals of complete days after the last sealed one. `first` and `last` are the ends of what is kept."""
        chain, made = await self._chain(series), await self._seal_skipped_day(series, first, now)
        if made:
            return made
        day = max(chain[-1].day + DAY_MS if chain else first // DAY_MS * DAY_MS, self._checked_until.get(series, 0))
        previous = chain[-1].digest if chain else GENESIS
        until = min(now - DAY_MS, last, day + (MAX_DAYS_PER_STEP - 1) * DAY_MS)
        async for each, candles in self._load_days(series, day, until):
            if not self._is_complete(series, each, candles, now):
                if now < each + DAY_MS + SKIP_INCOMPLETE_MS:
                    break
            elif candles:
                made.append(new_seal(series, each, candles, previous, now))
                previous = made[-1].digest
            self._checked_until[series] = each + DAY_MS
        return made

    def forget(self, series: Series) -> None:
        """Its seals are read again."""
        self._chains.pop(series, None)
        self._checked_until.pop(series, None)
        self._skipped_days.pop(series, None)

    def on_absent_gaps(self, gaps: Iterable[CandleGap]) -> None:
        """The exchange has nothing there: days that were passed over may be complete without."""
        for hole in gaps:
            for series in [each for each in self._checked_until if each[:2] == hole.series[:2]]:
                first = TIMEFRAMES[series.timeframe].open_time(hole.since) // DAY_MS * DAY_MS
                until = min(hole.until + 1, self._checked_until[series])
                self._recheck(series, range(first, until, DAY_MS))

    def on_saved(self, seals: Iterable[Seal]) -> None:
        """They are saved."""
        for seal in seals:
            chain = {known.day: known for known in self._chains.get(seal.series, [])} | {seal.day: seal}
            self._chains[seal.series] = [chain[day] for day in sorted(chain)]

    def _recheck(self, series: Series, days: Iterable[int]) -> None:
        """Look at these again. Before the first look it is not known which others there are."""
        if series in self._skipped_days:
            self._skipped_days[series].update(days)

    async def _seal_skipped_day(self, series: Series, first: int, now: int) -> list[Seal]:
        """New seals from the first day on that was passed over, and has become complete since."""
        chain = await self._chain(series)
        if series not in self._skipped_days:
            self._skipped_days[series] = set(_unsealed_days(series, first, chain))  # each may have changed since
        if series in self._still_changing:
            self._still_changing.discard(series)
            return []
        waiting = self._skipped_days[series]
        waiting.difference_update(seal.day for seal in chain)
        for day in sorted(waiting)[:MAX_SKIPPED_DAYS_PER_STEP]:
            waiting.discard(day)
            async for each, candles in self._load_days(series, day, day):
                if candles and self._is_complete(series, each, candles, now):
                    self._checked_until[series] = min(day, self._checked_until.get(series, day))
                    return await self._reseal_from(series, day, now) if chain else []
        return []

    async def _chain(self, series: Series) -> list[Seal]:
        if series not in self._chains:
            self._chains[series] = await self._store.seals(series, 0, FAR_FUTURE)
        return self._chains[series]

    async def _reseal_from(self, series: Series, day: int, now: int) -> list[Seal]:
        """New revisions of the seals from `day` on, as far as they change.

        They end before a day that is not as it was sealed although nobody corrected it: a new seal would hide the edit.
        """
        chain = await self._chain(series)
        old = {seal.day: seal for seal in chain}
        corrected = {opening // DAY_MS * DAY_MS for opening in self._cache.values_changed.get(series, ())}
        previous, made = next((seal.digest for seal in reversed(chain) if seal.day < day), GENESIS), list[Seal]()
        async for each, candles in self._load_days(series, day, chain[-1].day):
            if each in old and each not in corrected and digest(old[each].previous, candles) != old[each].digest:
                log.error("%s %s %s was edited by somebody else: see kurs verify", *series)
                break
            if candles and (each in old or self._is_complete(series, each, candles, now)):
                new = new_seal(series, each, candles, previous, now)
                made += filter(None, [next_revision(old.get(each), new)])
                previous = new.digest
        return made

    async def _load_days(self, series: Series, since: int, until: int) -> AsyncIterator[tuple[int, list[Candle]]]:
        """The days that begin in [since, until], each with its closed candles, those that are not saved yet too."""
        changed = {opening: candle for (name, opening), candle in self._cache.dirty.items() if name == series}
        step = max(1, MAX_LOADED_CANDLES * (TIMEFRAMES[series.timeframe].length or DAY_MS) // DAY_MS) * DAY_MS
        for start in range(since, until + 1, step):
            end = min(start + step, until // DAY_MS * DAY_MS + DAY_MS)
            rows = await self._store.candles(series, start, end - 1)
            found = {row.bar.open_time: row for row in rows}
            found |= {opening: candle for opening, candle in changed.items() if start <= opening < end}
            for day in range(start, end, DAY_MS):
                openings = TIMEFRAMES[series.timeframe].open_times(day, day + DAY_MS - 1)
                yield day, [found[opening] for opening in openings if opening in found and found[opening].closed]

    def _is_complete(self, series: Series, day: int, candles: Sequence[Candle], now: int) -> bool:
        """Whether nothing of a day is missing, nor the exchange's word on it."""
        have = {candle.bar.open_time for candle in candles}
        missing = (o for o in TIMEFRAMES[series.timeframe].open_times(day, day + DAY_MS - 1) if o not in have)
        if not all(self._gaps.is_absent(series, opening) for opening in missing):
            return False
        return now >= day + DAY_MS + EXCHANGE_CONFIRM_MS or all(
            candle.source is not CandleSource.TRADES for candle in candles
        )


def _unsealed_days(series: Series, first: int, chain: Sequence[Seal]) -> Iterator[int]:
    """The days from the first that is kept to the last that is sealed that have candles and no seal."""
    timeframe, expected = TIMEFRAMES[series.timeframe], first // DAY_MS * DAY_MS
    for seal in chain:
        for day in range(expected, seal.day, DAY_MS):
            if any(timeframe.open_times(day, day + DAY_MS - 1)):
                yield day
        expected = seal.day + DAY_MS
