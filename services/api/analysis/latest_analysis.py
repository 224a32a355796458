"""The newest analysis of a series: from the shared cache, from the analyst's row, otherwise computed."""

import asyncio

from services.api.analysis.analysis_cache import AnalysisCache
from services.api.indicators.column_reader import ColumnReader
from services.core.analysis import Analysis
from services.core.analysis.analysing import REQUIREMENTS, analyse
from services.core.analysis.blocks import first_needed
from services.core.indicators import to_columns
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Clock, Store
from services.web import SingleFlight


class LatestAnalysis:
    """The newest analysis of every series. Requests for one that is being made wait for it."""

    def __init__(self, *, store: Store, clock: Clock, reader: ColumnReader, cache: AnalysisCache) -> None:
        self._store, self._now = store, clock.now
        self._pages, self._reader, self._cache = reader.pages, reader, cache
        self._single_flight: SingleFlight[Series, Analysis] = SingleFlight()

    async def get(self, series: Series) -> Analysis:
        """Return the analysis as of the newest closed candle. Raises Unavailable."""
        return await self._single_flight.run(series, self._load)

    async def _load(self, series: Series) -> Analysis:
        version = self._pages.versions[series]
        newest = await self._reader.latest(series, self._now(), 2)
        closed = newest.columns.open_times[newest.closed]
        if not closed.size:
            return analyse(series, to_columns(()))
        open_time = int(closed[-1])
        if cached := await self._cache.get(series, open_time):
            return cached
        analysis = await self._stored_row(series, open_time) or await self._compute(series, open_time)
        if version == self._pages.versions[series]:  # otherwise the analysis may be outdated already
            await self._cache.save(series, analysis)
        return analysis

    async def _stored_row(self, series: Series, open_time: int) -> Analysis | None:
        if not self._cache.row_is_current(series, open_time):
            return None
        return next(iter(await self._store.analyses(series, open_time, open_time)), None)

    async def _compute(self, series: Series, open_time: int) -> Analysis:
        since = first_needed(REQUIREMENTS, TIMEFRAMES[series.timeframe], open_time)
        candles = await self._reader.between(series, since, open_time)
        daily = await self._reader.daily(series, REQUIREMENTS, open_time)
        return await asyncio.to_thread(analyse, series, candles.closed_columns, daily)
