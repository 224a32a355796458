"""Lines and levels of a series: what is computed already from the shared cache, the rest from its candles."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.api.candles import candle_page_cache
from services.api.indicators.column_reader import ColumnReader, concat_slices, shortfall
from services.api.indicators.indicator_page_cache import IndicatorPageCache, PageKey
from services.api.indicators.output_columns import OutputColumns, compute_outputs
from services.api.indicators.output_columns import concat_outputs as joined_lines
from services.core.analysis.blocks import Requirements
from services.core.indicators import (
    CATALOG,
    IndicatorSpec,
    OhlcvColumns,
    PriceLevel,
    compute_levels,
    future_values,
    lookahead,
    stable_from,
    warmup,
)
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Deps

WARMUP_MULTIPLES = (1, 4)  # how many warm-ups are read: more when a path is not known yet


class LevelsAt(NamedTuple):
    """The levels as of the last candle. `trusted`: None, or the next opening where too little history is kept."""

    levels: list[PriceLevel]
    trusted_from: int | None


class _PagePlan(NamedTuple):
    cached: list[OutputColumns]  # of the pages before `since`
    missing_pages: list[int]  # pages that nobody has computed
    since: int
    until: int  # what is to be computed; nothing when it is before `since`


class IndicatorService:
    """The lines and levels of every series."""

    def __init__(self, deps: Deps, history: ColumnReader, computed: IndicatorPageCache) -> None:
        self._history, self._page_cache, self._now = history, computed, deps.clock.now

    async def outputs(
        self, series: Series, specs: Sequence[IndicatorSpec], open_times: NDArray[np.int64]
    ) -> dict[IndicatorSpec, OutputColumns]:
        """One for each indicator along these openings, of which there is one at least. Raises Unavailable."""
        timeframe, first, last = TIMEFRAMES[series.timeframe], int(open_times[0]), int(open_times[-1])
        starts = {each: self._final_pages(each, timeframe, first, last) for each in specs}
        version = await self._page_cache.version(series)
        places = [(each, start) for each in specs for start in starts[each]]
        kept = {} if version is None else await self._page_cache.get(series, version, places, open_times)
        plans = {
            each: _plan_pages(each, starts[each], kept, (first, last), candle_page_cache.page_ms(series))
            for each in specs
        }
        fresh = await self._compute_missing(
            series, {each: plan for each, plan in plans.items() if plan.since <= plan.until}
        )
        if version is not None and fresh:
            self._page_cache.save_later(
                series, version, _missing_pages(plans, fresh, candle_page_cache.page_ms(series))
            )
        found = {each: plan.cached + ([fresh[each]] if each in fresh else []) for each, plan in plans.items()}
        return {each: joined_lines(parts).between(first, last) for each, parts in found.items()}

    async def levels(self, series: Series, specs: Sequence[IndicatorSpec], last: int) -> dict[IndicatorSpec, LevelsAt]:
        """Those as of the candle that opened at `last`. Raises Unavailable."""
        if not specs:
            return {}
        timeframe = TIMEFRAMES[series.timeframe]
        count = max(warmup(each, timeframe, last) for each in specs)
        past = await self._history.with_warmup(series, {last: count}, last)
        daily = await self._history.daily(series, Requirements(tuple(specs)), last)
        return await asyncio.to_thread(
            lambda: {each: _levels_at(each, past.columns, timeframe, daily) for each in specs}
        )

    async def future_outputs(
        self, series: Series, specs: Sequence[IndicatorSpec], last: int
    ) -> dict[IndicatorSpec, OutputColumns]:
        """What those that know something of it say of the openings after the one at `last`. Raises Unavailable."""
        knowing = [each for each in specs if CATALOG[each.name].future]
        if not knowing:
            return {}
        timeframe = TIMEFRAMES[series.timeframe]
        count = max(warmup(each, timeframe, last) for each in knowing)
        columns = (await self._history.with_warmup(series, {last: count}, last)).columns
        return {each: _future_outputs(each, columns, timeframe) for each in knowing}

    def _final_pages(self, spec: IndicatorSpec, timeframe: Timeframe, first: int, last: int) -> list[int]:
        """Pages of which nothing will change, the candles ahead of them included."""
        return candle_page_cache.past_pages(timeframe, first, last, self._now() - lookahead(spec) * timeframe.length)

    async def _compute_missing(
        self, series: Series, plans: Mapping[IndicatorSpec, _PagePlan]
    ) -> dict[IndicatorSpec, OutputColumns]:
        lines: dict[IndicatorSpec, OutputColumns] = {}
        timeframe, wanted = TIMEFRAMES[series.timeframe], dict(plans)
        for depth in WARMUP_MULTIPLES:
            if not wanted:
                break
            counts = {each: {plan.since: depth * warmup(each, timeframe, plan.since)} for each, plan in wanted.items()}
            columns = await self._read_candles(series, wanted, counts)
            lines |= await asyncio.to_thread(_compute_all, dict(wanted), columns, timeframe)
            wanted = {
                each: plan
                for each, plan in wanted.items()
                if lines[each].trusted_from is not None and shortfall(columns, counts[each]) <= 0
            }
        return lines

    async def _read_candles(
        self,
        series: Series,
        plans: Mapping[IndicatorSpec, _PagePlan],
        counts: Mapping[IndicatorSpec, Mapping[int, int]],
    ) -> OhlcvColumns:
        """The candles that the plans need: so many before, what is asked for, and what is ahead of it."""
        before: dict[int, int] = {}
        for each in counts.values():
            for opening, count in each.items():
                before[opening] = max(count, before.get(opening, 0))
        until = max(plan.until for plan in plans.values())
        past = await self._history.with_warmup(series, before, until)
        count = max(map(lookahead, plans))
        return (
            concat_slices([past, await self._history.following(series, until, count)]).columns
            if count
            else past.columns
        )


def _plan_pages(
    spec: IndicatorSpec,
    starts: Sequence[int],
    cached: Mapping[PageKey, OutputColumns],
    span: tuple[int, int],
    length: int,
) -> _PagePlan:
    """From the first page that is missing on everything is computed; else what is after the last page."""
    first, last = span
    missing = [start for start in starts if (spec, start) not in cached]
    end = starts[-1] + length if starts else first
    since, until = (missing[0], max(last, end - 1)) if missing else (end, last)
    return _PagePlan([cached[spec, start] for start in starts if start < since], missing, since, until)


def _missing_pages(
    plans: Mapping[IndicatorSpec, _PagePlan], computed: Mapping[IndicatorSpec, OutputColumns], length: int
) -> Iterator[tuple[PageKey, OutputColumns]]:
    """The pages that were missing."""
    for each, plan in plans.items():
        for start in plan.missing_pages:
            yield (each, start), computed[each].between(start, start + length - 1)


def _compute_all(
    plans: Mapping[IndicatorSpec, _PagePlan], columns: OhlcvColumns, timeframe: Timeframe
) -> dict[IndicatorSpec, OutputColumns]:
    return {each: compute_outputs(each, columns, timeframe, plan.since, plan.until) for each, plan in plans.items()}


def _levels_at(
    spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe, daily: OhlcvColumns | None
) -> LevelsAt:
    end = len(columns.open_times)
    part = columns.slice(max(0, end - 1 - warmup(spec, timeframe, int(columns.open_times[-1]))), end)
    found = compute_levels(spec, part, timeframe, daily)
    trusted = (
        bool(found) if CATALOG[spec.name].uses_daily else stable_from(spec, part, timeframe) < len(part.open_times)
    )
    return LevelsAt(found, None if trusted else timeframe.close_time(int(columns.open_times[-1])))


def _future_outputs(spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe) -> OutputColumns:
    values, openings = future_values(spec, columns), [int(columns.open_times[-1])]
    for _ in next(iter(values.values()), ()):
        openings.append(timeframe.close_time(openings[-1]))
    return OutputColumns(np.array(openings[1:], np.int64), values, None)
