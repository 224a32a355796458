"""Candles as columns, read by pages that this process keeps: an indicator looks far back, and Decimals are slow."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.api.candles import candle_page_cache
from services.api.candles.candle_page_cache import CandlePageCache
from services.core.analysis.blocks import Requirements
from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.indicators import OhlcvColumns, to_columns
from services.core.indicators import concat_columns as joined_columns
from services.core.model import Candle, Series
from services.core.timeframes import DAY_MS, TIMEFRAMES, Timeframe
from services.core.times import FAR_FUTURE
from services.ports import Deps
from services.web import FifoCache

MAX_CACHED_PAGES = 512  # pages of columns, some 25 kB each
COMPLETE_TTL_MS, FORMING_TTL_MS = (
    60_000,
    200,
)  # how long a page is kept; the one with the forming candle for one answer's sake
MONTH_MS = 31 * DAY_MS


class CandleSlice(NamedTuple):
    """Candles, oldest first, and which of them are closed."""

    columns: OhlcvColumns
    closed: NDArray[np.bool_]

    @property
    def closed_columns(self) -> OhlcvColumns:
        """Those that are closed."""
        return OhlcvColumns(self.columns.open_times[self.closed], *(column[self.closed] for column in self.columns[1:]))

    def between(self, since: int, until: int) -> "CandleSlice":
        """Those with openings in [since, until]."""
        first, end = self.columns.open_times.searchsorted((since, until + 1)).tolist()
        return CandleSlice(self.columns.slice(first, end), self.closed[first:end])


class ColumnReader:
    """The candles of every series."""

    def __init__(self, deps: Deps, pages: CandlePageCache) -> None:
        self.pages, self._now, self._monotonic = pages, deps.clock.now, deps.clock.monotonic
        self._cached_pages: FifoCache[str, tuple[int, CandleSlice]] = FifoCache(MAX_CACHED_PAGES)
        deps.hub.on_candle(self._on_candle)

    async def between(self, series: Series, since: int, until: int) -> CandleSlice:
        """Candles with openings in [since, until], the forming one too. Raises Unavailable."""
        starts = candle_page_cache.past_pages(TIMEFRAMES[series.timeframe], since, until, FAR_FUTURE) or [0]
        return concat_slices([await self._page(series, start) for start in starts]).between(since, until)

    async def latest(self, series: Series, until: int, count: int) -> CandleSlice:
        """The newest `count` candles with openings up to `until`, over whatever is missing. Raises Unavailable."""
        past = await self.with_warmup(series, {until + 1: count}, until)
        return CandleSlice(past.columns.slice(max(0, len(past.closed) - count), len(past.closed)), past.closed[-count:])

    async def with_warmup(self, series: Series, counts: Mapping[int, int], until: int) -> CandleSlice:
        """Candles with openings up to `until`: of each opening in `counts` at least so many before it, if there are.
        Raises Unavailable.
        """
        timeframe = TIMEFRAMES[series.timeframe]
        since = min(_step_back(timeframe, opening, count) for opening, count in counts.items())
        past = await self.between(series, since, until)
        lack = shortfall(past.columns, counts)
        return (
            past
            if lack <= 0
            else concat_slices([_to_slice(await self.pages.reader.latest(series, since - 1, lack)), past])
        )

    async def following(self, series: Series, open_time: int, count: int) -> CandleSlice:
        """The oldest `count` candles that opened after `opening`. Raises Unavailable."""
        now = self._now()
        until = min(now, open_time + count * (TIMEFRAMES[series.timeframe].length or MONTH_MS))
        past = await self.between(series, open_time + 1, until)
        if len(past.closed) >= count:
            return CandleSlice(past.columns.slice(0, count), past.closed[:count])
        return past if until >= now else _to_slice(await self.pages.reader.between(series, open_time + 1, now, count))

    async def daily(self, series: Series, requirements: Requirements, last: int) -> OhlcvColumns | None:
        """The candles of 1d that levels as of the candle at `last` are made of, all of them closed; None: they need
        none. Raises Unavailable.
        """
        since = requirements.daily_since(TIMEFRAMES[series.timeframe], last)
        if since is None:
            return None
        past = await self.between(series._replace(timeframe="1d"), since, last)
        return past.closed_columns

    async def _page(self, series: Series, start: int) -> CandleSlice:
        name, now, monotonic = candle_page_cache.page_key(series, start), self._now(), self._monotonic()
        expires, past = self._cached_pages.get(name) or (0, None)
        if past is not None and expires > monotonic:
            return past
        changes, end = self.pages.versions[series], start + (candle_page_cache.page_ms(series) or FAR_FUTURE)
        past = _to_slice(await self.pages.candles(series, start, min(end - 1, now)))
        if changes == self.pages.versions[series]:  # else what was read may be old already
            over = end + candle_page_cache.FINAL_AFTER_MS <= now
            self._cached_pages.put(name, (monotonic + (COMPLETE_TTL_MS if over else FORMING_TTL_MS), past))
        return past

    def _on_candle(self, candle: Candle) -> None:
        self._cached_pages.drop(candle_page_cache.page_key(candle.series, candle.bar.open_time))


def shortfall(columns: OhlcvColumns, counts: Mapping[int, int]) -> int:
    """How many more candles there should be before these."""
    return max(count - int(np.searchsorted(columns.open_times, opening)) for opening, count in counts.items())


def _step_back(timeframe: Timeframe, open_time: int, count: int) -> int:
    """The opening so many candles before, but none before there was a market."""
    count = min(count, timeframe.count_between(EARLIEST_CANDLE_MS, open_time))
    return timeframe.step_back(timeframe.open_time(open_time), count)


def _to_slice(candles: Sequence[Candle]) -> CandleSlice:
    return CandleSlice(to_columns(candles), np.array([candle.closed for candle in candles], np.bool_))


def concat_slices(slices: Sequence[CandleSlice]) -> CandleSlice:
    """Candles one after the other."""
    return CandleSlice(
        joined_columns([part.columns for part in slices]), np.concatenate([part.closed for part in slices])
    )
