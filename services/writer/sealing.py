"""Seals of complete days. A correction of a sealed day reseals it and all days after it.

A day that stays incomplete is skipped after a while, and sealed when it becomes complete.
"""

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence

from services.core.model import Candle, CandleGap, CandleSource, Series
from services.core.seals import GENESIS, Seal, digest, new_seal, next_revision
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE, format_rfc3339
from services.ports import Store
from services.writer.candle_cache import StoredCandleCache
from services.writer.gap_registry import GapRegistry

EXCHANGE_CONFIRM_MS = 3_600_000  # after a day's end, in which klines may still replace what trades built
SKIP_INCOMPLETE_MS = DAY_MS + EXCHANGE_CONFIRM_MS  # after a day's end: absent candles are fetched again for a day
MAX_LOADED_CANDLES = 3_000  # by one query
MAX_DAYS_PER_STEP = 400  # the writer does nothing else meanwhile
MAX_SKIPPED_DAYS_PER_STEP = 50
log = logging.getLogger(__name__)


class Sealer:
    """Seals of all series."""

    def __init__(self, store: Store, cache: StoredCandleCache, gaps: GapRegistry) -> None:
        self._store, self._cache, self._gaps = store, cache, gaps
        self._chains: dict[Series, list[Seal]] = {}  # oldest first
        self._checked_until: dict[Series, int] = {}  # the first day that was not checked yet
        self._skipped_days: dict[Series, set[int]] = {}  # days without a seal that are to be checked again
        self._still_changing: set[Series] = set()  # with a change in a skipped day since the last step

    async def reseal_corrected(self, now: int) -> list[Seal]:
        """Return new revisions of the seals that the cache's changes break.

        A changed day without a seal is only noted: it is sealed when no more changes of it arrive.
        """
        seals = []
        for series, open_times in self._cache.values_changed.items():
            chain = await self._chain(series)
            end = max(chain[-1].day + DAY_MS if chain else 0, self._checked_until.get(series, 0))
            if min(open_times) >= end:  # nearly all changes are newer than the chain
                continue
            sealed, changed = {seal.day for seal in chain}, _days_of(open_times)
            if corrected := changed & sealed:
                seals += await self._reseal_from(series, min(corrected), now)
            if skipped := {day for day in changed - sealed if day < end}:
                self._still_changing.add(series)
                self._recheck(series, skipped)
        return seals

    async def seal_complete_days(self, series: Series, first: int, last: int, now: int) -> list[Seal]:
        """Return seals of complete days. `first` and `last` are the ends of what is stored of the series."""
        chain = await self._chain(series)
        if late := await self._seal_skipped_day(series, first, now):
            return late
        seals = list[Seal]()
        day = max(chain[-1].day + DAY_MS if chain else _day_of(first), self._checked_until.get(series, 0))
        previous = chain[-1].digest if chain else GENESIS
        until = min(now - DAY_MS, last, day + (MAX_DAYS_PER_STEP - 1) * DAY_MS)
        async for loaded_day, candles in self._load_days(series, day, until):
            if not self._is_complete(series, loaded_day, candles, now):
                if now < loaded_day + DAY_MS + SKIP_INCOMPLETE_MS:
                    break
            elif candles:
                seals.append(new_seal(series, loaded_day, candles, previous, now))
                previous = seals[-1].digest
            self._checked_until[series] = loaded_day + DAY_MS
        return seals

    def forget(self, series: Series) -> None:
        """Drop what is known of a series, so that its seals are loaded again."""
        self._chains.pop(series, None)
        self._checked_until.pop(series, None)
        self._skipped_days.pop(series, None)

    def on_absent_gaps(self, gaps: Iterable[CandleGap]) -> None:
        """Check skipped days again: where the exchange has no candle, a day is complete without it."""
        for gap in gaps:
            for series in [series for series in self._checked_until if series[:2] == gap.series[:2]]:
                first = _day_of(TIMEFRAMES[series.timeframe].open_time(gap.since))
                until = min(gap.until + 1, self._checked_until[series])
                self._recheck(series, range(first, until, DAY_MS))

    def on_saved(self, seals: Iterable[Seal]) -> None:
        """Add seals that were saved to their chains."""
        for seal in seals:
            chain = {earlier.day: earlier for earlier in self._chains.get(seal.series, [])} | {seal.day: seal}
            self._chains[seal.series] = [chain[day] for day in sorted(chain)]

    def _recheck(self, series: Series, days: Iterable[int]) -> None:
        # Before the first check of a series all its skipped days are due anyway.
        if series in self._skipped_days:
            self._skipped_days[series].update(days)

    async def _seal_skipped_day(self, series: Series, first: int, now: int) -> list[Seal]:
        """Return the seals from the first skipped day on that has become complete; none if there is no such day."""
        chain = await self._chain(series)
        if series not in self._skipped_days:
            self._skipped_days[series] = set(_unsealed_days(series, first, chain))
        if series in self._still_changing:
            self._still_changing.discard(series)
            return []
        skipped = self._skipped_days[series]
        skipped.difference_update(seal.day for seal in chain)
        for day in sorted(skipped)[:MAX_SKIPPED_DAYS_PER_STEP]:
            skipped.discard(day)
            async for _, candles in self._load_days(series, day, day):
                if candles and self._is_complete(series, day, candles, now):
                    self._checked_until[series] = min(day, self._checked_until.get(series, day))
                    return await self._reseal_from(series, day, now) if chain else []
        return []

    async def _chain(self, series: Series) -> list[Seal]:
        if series not in self._chains:
            self._chains[series] = await self._store.seals(series, 0, FAR_FUTURE)
        return self._chains[series]

    async def _reseal_from(self, series: Series, first_day: int, now: int) -> list[Seal]:
        """Return new revisions of the seals from a day on, where they differ, up to a day that was edited."""
        chain = await self._chain(series)
        sealed = {seal.day: seal for seal in chain}
        previous = next((seal.digest for seal in reversed(chain) if seal.day < first_day), GENESIS)
        seals = list[Seal]()
        async for day, candles in self._unedited_days(series, first_day, chain[-1].day, sealed):
            if candles and (day in sealed or self._is_complete(series, day, candles, now)):
                seal = new_seal(series, day, candles, previous, now)
                if revision := next_revision(sealed.get(day), seal):
                    seals.append(revision)
                previous = seal.digest
        return seals

    async def _unedited_days(
        self, series: Series, since: int, until: int, sealed: Mapping[int, Seal]
    ) -> AsyncIterator[tuple[int, list[Candle]]]:
        """Yield days with their candles, up to the first that does not match its seal although nothing corrected it.

        A new seal of that day, or of a later one, would hide the edit.
        """
        corrected = _days_of(self._cache.values_changed.get(series, ()))
        async for day, candles in self._load_days(series, since, until):
            if day in sealed and day not in corrected and not _matches(sealed[day], candles):
                text = (
                    "%s %s %s: the stored candles of %s do not match their seal (edited outside Kurs?); "
                    "this day and the days after it are not resealed; run kurs verify"
                )
                log.error(text, *series, format_rfc3339(day)[:10])
                return
            yield day, candles

    async def _load_days(self, series: Series, since: int, until: int) -> AsyncIterator[tuple[int, list[Candle]]]:
        """Yield the days that begin in [since, until], each with its closed candles, unsaved ones among them."""
        timeframe = TIMEFRAMES[series.timeframe]
        unsaved = {open_time: candle for (dirty, open_time), candle in self._cache.dirty.items() if dirty == series}
        step = max(1, MAX_LOADED_CANDLES * (timeframe.length or DAY_MS) // DAY_MS) * DAY_MS
        for start in range(since, until + 1, step):
            end = min(start + step, _day_of(until) + DAY_MS)
            rows = await self._store.candles(series, start, end - 1)
            candles = {row.bar.open_time: row for row in rows}
            candles |= {open_time: candle for open_time, candle in unsaved.items() if start <= open_time < end}
            for day in range(start, end, DAY_MS):
                of_day = (candles.get(open_time) for open_time in timeframe.open_times(day, day + DAY_MS - 1))
                yield day, [candle for candle in of_day if candle and candle.closed]

    def _is_complete(self, series: Series, day: int, candles: Sequence[Candle], now: int) -> bool:
        """Return whether each candle of a day is there or absent, and the exchange confirmed those built from trades.

        After `EXCHANGE_CONFIRM_MS` the confirmation is not waited for.
        """
        stored = {candle.bar.open_time for candle in candles}
        missing = (o for o in TIMEFRAMES[series.timeframe].open_times(day, day + DAY_MS - 1) if o not in stored)
        if not all(self._gaps.is_absent(series, open_time) for open_time in missing):
            return False
        confirmed = all(candle.source is not CandleSource.TRADES for candle in candles)
        return confirmed or now >= day + DAY_MS + EXCHANGE_CONFIRM_MS


def _matches(seal: Seal, candles: Sequence[Candle]) -> bool:
    return digest(seal.previous, candles) == seal.digest


def _day_of(time: int) -> int:
    return time // DAY_MS * DAY_MS


def _days_of(open_times: Collection[int]) -> set[int]:
    return {_day_of(open_time) for open_time in open_times}


def _unsealed_days(series: Series, first: int, chain: Sequence[Seal]) -> Iterator[int]:
    """Yield the days without a seal from the first that is stored to the last sealed one, where candles begin."""
    timeframe, expected = TIMEFRAMES[series.timeframe], _day_of(first)
    for seal in chain:
        for day in range(expected, seal.day, DAY_MS):
            if any(timeframe.open_times(day, day + DAY_MS - 1)):
                yield day
        expected = seal.day + DAY_MS
