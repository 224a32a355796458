"""Outputs and price levels of the indicators of a series: from the shared cache, otherwise computed from candles."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.api.candles import candle_page_cache
from services.api.indicators.column_reader import ColumnReader, concat_slices, shortfall
from services.api.indicators.indicator_page_cache import IndicatorPageCache
from services.api.indicators.output_columns import OutputColumns
from services.api.indicators.page_plan import PagePlan
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
from services.ports import Clock

WARMUP_MULTIPLES = (1, 4)  # if a path-dependent indicator has not converged after its warm-up, it is read four times


class LevelsAt(NamedTuple):
    """Price levels as of one candle. `trusted_from` is None, or the next open time if too few candles are stored."""

    levels: list[PriceLevel]
    trusted_from: int | None


class IndicatorService:
    """Indicators of every series."""

    def __init__(self, reader: ColumnReader, page_cache: IndicatorPageCache, clock: Clock) -> None:
        self._reader, self._page_cache, self._now = reader, page_cache, clock.now

    async def outputs(
        self, series: Series, specs: Sequence[IndicatorSpec], open_times: NDArray[np.int64]
    ) -> dict[IndicatorSpec, OutputColumns]:
        """Return the outputs of each indicator along these candles, at least one. Raises Unavailable."""
        timeframe, first, last = TIMEFRAMES[series.timeframe], int(open_times[0]), int(open_times[-1])
        page_ms = candle_page_cache.page_ms(series)
        starts = {spec: self._final_pages(spec, timeframe, first, last) for spec in specs}
        keys = [(spec, start) for spec in specs for start in starts[spec]]
        version = await self._page_cache.version(series)
        cached = {} if version is None else await self._page_cache.get(series, version, keys, open_times)
        plans = [PagePlan.make(spec, (first, last), starts[spec], cached, page_ms) for spec in specs]
        computed = await self._compute(series, [plan for plan in plans if plan.needs_computing])
        if version is not None and computed:
            pages = chain.from_iterable(plan.new_pages(computed[plan.spec]) for plan in plans if plan.missing)
            self._page_cache.save_later(series, version, pages)
        return {plan.spec: plan.outputs(computed.get(plan.spec)) for plan in plans}

    async def levels(self, series: Series, specs: Sequence[IndicatorSpec], last: int) -> dict[IndicatorSpec, LevelsAt]:
        """Return the price levels as of the candle that opened at `last`. Raises Unavailable."""
        if not specs:
            return {}
        timeframe = TIMEFRAMES[series.timeframe]
        count = max(warmup(spec, timeframe, last) for spec in specs)
        columns = (await self._reader.with_warmup(series, {last: count}, last)).columns
        daily = await self._reader.daily(series, Requirements(tuple(specs)), last)
        return await asyncio.to_thread(lambda: {spec: _levels_at(spec, columns, timeframe, daily) for spec in specs})

    async def future_outputs(
        self, series: Series, specs: Sequence[IndicatorSpec], last: int
    ) -> dict[IndicatorSpec, OutputColumns]:
        """Return the outputs after the candle at `last`, of indicators that have any. Raises Unavailable."""
        with_future = [spec for spec in specs if CATALOG[spec.name].future]
        if not with_future:
            return {}
        timeframe = TIMEFRAMES[series.timeframe]
        count = max(warmup(spec, timeframe, last) for spec in with_future)
        columns = (await self._reader.with_warmup(series, {last: count}, last)).columns
        return {spec: _future_outputs(spec, columns, timeframe) for spec in with_future}

    def _final_pages(self, spec: IndicatorSpec, timeframe: Timeframe, first: int, last: int) -> list[int]:
        """Return the starts of the pages whose candles are final, and the candles that they look ahead to as well."""
        return candle_page_cache.past_pages(timeframe, first, last, self._now() - lookahead(spec) * timeframe.length)

    async def _compute(self, series: Series, plans: Sequence[PagePlan]) -> dict[IndicatorSpec, OutputColumns]:
        computed: dict[IndicatorSpec, OutputColumns] = {}
        timeframe, pending = TIMEFRAMES[series.timeframe], plans
        for multiple in WARMUP_MULTIPLES:
            if not pending:
                break
            counts = {plan.spec: multiple * warmup(plan.spec, timeframe, plan.since) for plan in pending}
            columns = await self._read_candles(series, pending, counts)
            computed |= await asyncio.to_thread(_compute_all, pending, columns, timeframe)
            pending = [
                plan
                for plan in pending
                if computed[plan.spec].trusted_from is not None
                and shortfall(columns, {plan.since: counts[plan.spec]}) <= 0
            ]
        return computed

    async def _read_candles(
        self, series: Series, plans: Sequence[PagePlan], counts: Mapping[IndicatorSpec, int]
    ) -> OhlcvColumns:
        """Return the candles of all plans, `counts` candles before each, and those that they look ahead to."""
        before: dict[int, int] = {}
        for plan in plans:
            before[plan.since] = max(counts[plan.spec], before.get(plan.since, 0))
        until, ahead = max(plan.until for plan in plans), max(lookahead(plan.spec) for plan in plans)
        candles = await self._reader.with_warmup(series, before, until)
        if ahead:
            candles = concat_slices([candles, await self._reader.following(series, until, ahead)])
        return candles.columns


def _compute_all(
    plans: Sequence[PagePlan], columns: OhlcvColumns, timeframe: Timeframe
) -> dict[IndicatorSpec, OutputColumns]:
    return {plan.spec: plan.compute(columns, timeframe) for plan in plans}


def _levels_at(
    spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe, daily: OhlcvColumns | None
) -> LevelsAt:
    count, last = len(columns.open_times), int(columns.open_times[-1])
    needed = columns.slice(max(0, count - 1 - warmup(spec, timeframe, last)), count)
    levels = compute_levels(spec, needed, timeframe, daily)
    if CATALOG[spec.name].uses_daily:
        is_trusted = bool(levels)
    else:
        is_trusted = stable_from(spec, needed, timeframe) < len(needed.open_times)
    return LevelsAt(levels, None if is_trusted else timeframe.close_time(last))


def _future_outputs(spec: IndicatorSpec, columns: OhlcvColumns, timeframe: Timeframe) -> OutputColumns:
    values, open_times = future_values(spec, columns), [int(columns.open_times[-1])]
    for _ in next(iter(values.values()), ()):
        open_times.append(timeframe.close_time(open_times[-1]))
    return OutputColumns(np.array(open_times[1:], np.int64), values, None)
