"""The newest analysis of a series: from the shared cache, from the analyst's row, or computed here, once for all who
ask."""

import asyncio

from services.api.analysis.analysis_cache import Cached
from services.api.candles.candle_page_cache import Pages
from services.api.indicators.column_reader import History
from services.core.analysis import Analysis
from services.core.analysis.analysing import NEED, analyse
from services.core.analysis.blocks import reach
from services.core.indicators import columns
from services.core.model import Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps
from services.web import Once


class Newest:
    """Of every series."""

    def __init__(self, deps: Deps, pages: Pages, history: History) -> None:
        self._store, self._now = deps.store, deps.clock.now
        self._pages, self._history, self._cached = pages, history, Cached(deps)
        self._once: Once[Series, Analysis] = Once()

    async def analysis(self, series: Series) -> Analysis:
        """As of the newest closed candle. Raises Unavailable."""
        return await self._once.make(series, self._found)

    async def _found(self, series: Series) -> Analysis:
        changes = self._pages.changes[series]
        past = await self._history.last(series, self._now(), 2)
        closed = past.columns.time[past.closed]
        if not closed.size:
            return analyse(series, columns(()))
        timestamp = int(closed[-1])
        if found := await self._cached.get(series, timestamp):
            return found
        found = await self._kept(series, timestamp) or await self._computed(series, timestamp)
        if changes == self._pages.changes[series]:  # else what was read may be old already
            await self._cached.keep(series, found)
        return found

    async def _kept(self, series: Series, timestamp: int) -> Analysis | None:
        if not self._cached.trusts(series, timestamp):
            return None
        return next(iter(await self._store.analyses(series, timestamp, timestamp)), None)

    async def _computed(self, series: Series, timestamp: int) -> Analysis:
        since = reach(NEED, TIMEFRAMES[series.timeframe], timestamp)
        past = await self._history.between(series, since, timestamp)
        daily = await self._history.daily(series, NEED, timestamp)
        return await asyncio.to_thread(analyse, series, past.closed_columns, daily)
