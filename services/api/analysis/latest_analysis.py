"""The newest analysis of a series: from the shared cache, from the analyst's row, or computed here, once for all who
ask."""

import asyncio

from services.api.analysis.analysis_cache import AnalysisCache
from services.api.candles.candle_page_cache import CandlePageCache
from services.api.indicators.column_reader import ColumnReader
from services.core.analysis import Analysis
from services.core.analysis.analysing import REQUIREMENTS, analyse
from services.core.analysis.blocks import first_needed
from services.core.indicators import to_columns
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps
from services.web import SingleFlight


class LatestAnalysis:
    """Of every series."""

    def __init__(self, deps: Deps, pages: CandlePageCache, history: ColumnReader) -> None:
        self._store, self._now = deps.store, deps.clock.now
        self._pages, self._history, self._cache = pages, history, AnalysisCache(deps)
        self._once: SingleFlight[Series, Analysis] = SingleFlight()

    async def get(self, series: Series) -> Analysis:
        """As of the newest closed candle. Raises Unavailable."""
        return await self._once.run(series, self._load)

    async def _load(self, series: Series) -> Analysis:
        changes = self._pages.versions[series]
        past = await self._history.latest(series, self._now(), 2)
        closed = past.columns.open_times[past.closed]
        if not closed.size:
            return analyse(series, to_columns(()))
        timestamp = int(closed[-1])
        if found := await self._cache.get(series, timestamp):
            return found
        found = await self._stored_row(series, timestamp) or await self._compute(series, timestamp)
        if changes == self._pages.versions[series]:  # else what was read may be old already
            await self._cache.save(series, found)
        return found

    async def _stored_row(self, series: Series, timestamp: int) -> Analysis | None:
        if not self._cache.row_is_current(series, timestamp):
            return None
        return next(iter(await self._store.analyses(series, timestamp, timestamp)), None)

    async def _compute(self, series: Series, timestamp: int) -> Analysis:
        since = first_needed(REQUIREMENTS, TIMEFRAMES[series.timeframe], timestamp)
        past = await self._history.between(series, since, timestamp)
        daily = await self._history.daily(series, REQUIREMENTS, timestamp)
        return await asyncio.to_thread(analyse, series, past.closed_columns, daily)
