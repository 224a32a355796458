"""Lines and levels of a series: what is computed already from the shared cache, the rest from its candles."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.api.candles import candle_page_cache
from services.api.indicators.column_reader import History, joined, lacking
from services.api.indicators.indicator_page_cache import Computed, Place
from services.api.indicators.output_columns import Line, line
from services.api.indicators.output_columns import joined as joined_lines
from services.core.analysis.blocks import Need
from services.core.indicators import CATALOG, Asked, Columns, Level, ahead, future, levels, settled, warmup
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Deps

DEPTHS = (1, 4)  # how many warm-ups are read: more when a path is not known yet


class Marks(NamedTuple):
    """The levels as of the last candle. `trusted`: None, or the next opening where too little history is kept."""

    levels: list[Level]
    trusted: int | None


class _Plan(NamedTuple):
    kept: list[Line]  # of the pages before `since`
    missing: list[int]  # pages that nobody has computed
    since: int
    until: int  # what is to be computed; nothing when it is before `since`


class Work:
    """The lines and levels of every series."""

    def __init__(self, deps: Deps, history: History, computed: Computed) -> None:
        self._history, self._computed, self._now = history, computed, deps.clock.now

    async def lines(self, series: Series, asked: Sequence[Asked], time: NDArray[np.int64]) -> dict[Asked, Line]:
        """One for each indicator along these openings, of which there is one at least. Raises Unavailable."""
        timeframe, first, last = TIMEFRAMES[series.timeframe], int(time[0]), int(time[-1])
        starts = {each: self._over(each, timeframe, first, last) for each in asked}
        version = await self._computed.version(series)
        places = [(each, start) for each in asked for start in starts[each]]
        kept = {} if version is None else await self._computed.get(series, version, places, time)
        plans = {each: _plan(each, starts[each], kept, (first, last), candle_page_cache.page(series)) for each in asked}
        fresh = await self._fresh(series, {each: plan for each, plan in plans.items() if plan.since <= plan.until})
        if version is not None and fresh:
            self._computed.keep(series, version, _cut(plans, fresh, candle_page_cache.page(series)))
        found = {each: plan.kept + ([fresh[each]] if each in fresh else []) for each, plan in plans.items()}
        return {each: joined_lines(parts).between(first, last) for each, parts in found.items()}

    async def levels(self, series: Series, asked: Sequence[Asked], last: int) -> dict[Asked, Marks]:
        """Those as of the candle that opened at `last`. Raises Unavailable."""
        if not asked:
            return {}
        timeframe = TIMEFRAMES[series.timeframe]
        count = max(warmup(each, timeframe, last) for each in asked)
        past = await self._history.reaching(series, {last: count}, last)
        daily = await self._history.daily(series, Need(tuple(asked)), last)
        return await asyncio.to_thread(lambda: {each: _marks(each, past.columns, timeframe, daily) for each in asked})

    async def futures(self, series: Series, asked: Sequence[Asked], last: int) -> dict[Asked, Line]:
        """What those that know something of it say of the openings after the one at `last`. Raises Unavailable."""
        knowing = [each for each in asked if CATALOG[each.name].future]
        if not knowing:
            return {}
        timeframe = TIMEFRAMES[series.timeframe]
        count = max(warmup(each, timeframe, last) for each in knowing)
        columns = (await self._history.reaching(series, {last: count}, last)).columns
        return {each: _future(each, columns, timeframe) for each in knowing}

    def _over(self, asked: Asked, timeframe: Timeframe, first: int, last: int) -> list[int]:
        """Pages of which nothing will change, the candles ahead of them included."""
        return candle_page_cache.over(timeframe, first, last, self._now() - ahead(asked) * timeframe.length)

    async def _fresh(self, series: Series, plans: Mapping[Asked, _Plan]) -> dict[Asked, Line]:
        lines: dict[Asked, Line] = {}
        timeframe, wanted = TIMEFRAMES[series.timeframe], dict(plans)
        for depth in DEPTHS:
            if not wanted:
                break
            counts = {each: {plan.since: depth * warmup(each, timeframe, plan.since)} for each, plan in wanted.items()}
            columns = await self._read(series, wanted, counts)
            lines |= await asyncio.to_thread(_computed, dict(wanted), columns, timeframe)
            wanted = {
                each: plan
                for each, plan in wanted.items()
                if lines[each].trusted is not None and lacking(columns, counts[each]) <= 0
            }
        return lines

    async def _read(
        self, series: Series, plans: Mapping[Asked, _Plan], counts: Mapping[Asked, Mapping[int, int]]
    ) -> Columns:
        """The candles that the plans need: so many before, what is asked for, and what is ahead of it."""
        before: dict[int, int] = {}
        for each in counts.values():
            for opening, count in each.items():
                before[opening] = max(count, before.get(opening, 0))
        until = max(plan.until for plan in plans.values())
        past = await self._history.reaching(series, before, until)
        count = max(map(ahead, plans))
        return joined([past, await self._history.after(series, until, count)]).columns if count else past.columns


def _plan(asked: Asked, starts: Sequence[int], kept: Mapping[Place, Line], span: tuple[int, int], length: int) -> _Plan:
    """From the first page that is missing on everything is computed; else what is after the last page."""
    first, last = span
    missing = [start for start in starts if (asked, start) not in kept]
    end = starts[-1] + length if starts else first
    since, until = (missing[0], max(last, end - 1)) if missing else (end, last)
    return _Plan([kept[asked, start] for start in starts if start < since], missing, since, until)


def _cut(plans: Mapping[Asked, _Plan], fresh: Mapping[Asked, Line], length: int) -> Iterator[tuple[Place, Line]]:
    """The pages that were missing."""
    for each, plan in plans.items():
        for start in plan.missing:
            yield (each, start), fresh[each].between(start, start + length - 1)


def _computed(plans: Mapping[Asked, _Plan], columns: Columns, timeframe: Timeframe) -> dict[Asked, Line]:
    return {each: line(each, columns, timeframe, plan.since, plan.until) for each, plan in plans.items()}


def _marks(asked: Asked, columns: Columns, timeframe: Timeframe, daily: Columns | None) -> Marks:
    end = len(columns.time)
    part = columns.between(max(0, end - 1 - warmup(asked, timeframe, int(columns.time[-1]))), end)
    found = levels(asked, part, timeframe, daily)
    trusted = bool(found) if CATALOG[asked.name].daily else settled(asked, part, timeframe) < len(part.time)
    return Marks(found, None if trusted else timeframe.closing(int(columns.time[-1])))


def _future(asked: Asked, columns: Columns, timeframe: Timeframe) -> Line:
    values, openings = future(asked, columns), [int(columns.time[-1])]
    for _ in next(iter(values.values()), ()):
        openings.append(timeframe.closing(openings[-1]))
    return Line(np.array(openings[1:], np.int64), values, None)
