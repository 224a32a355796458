"""Candles as columns, cached by pages in this process: indicators need many, and converting Decimals is slow."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.api.candles import candle_page_cache
from services.api.candles.candle_page_cache import CandlePageCache
from services.core.analysis.blocks import Requirements
from services.core.history_depth import EARLIEST_CANDLE_MS
from services.core.indicators import OhlcvColumns, concat_columns, to_columns
from services.core.model import Candle, Series
from services.core.timeframes import DAY_MS, TIMEFRAMES, Timeframe
from services.core.times import FAR_FUTURE
from services.ports import Clock
from services.web import FifoCache

MAX_CACHED_PAGES = 512  # about 25 kB each
COMPLETE_TTL_MS = 60_000
FORMING_TTL_MS = 200  # of the page with the forming candle: for the reads of one response
MONTH_MS = 31 * DAY_MS


class CandleSlice(NamedTuple):
    """Candles, oldest first, with a flag for each that is closed."""

    columns: OhlcvColumns
    closed: NDArray[np.bool_]

    @property
    def closed_columns(self) -> OhlcvColumns:
        """The closed candles."""
        return OhlcvColumns(self.columns.open_times[self.closed], *(column[self.closed] for column in self.columns[1:]))

    def between(self, since: int, until: int) -> "CandleSlice":
        """Return the candles with open times in [since, until]."""
        first, end = self.columns.open_times.searchsorted((since, until + 1)).tolist()
        return CandleSlice(self.columns.slice(first, end), self.closed[first:end])


class ColumnReader:
    """Reads the candles of every series as columns. `on_candle` is called with each candle that changes."""

    def __init__(self, pages: CandlePageCache, clock: Clock) -> None:
        self.pages, self._now, self._monotonic = pages, clock.now, clock.monotonic
        self._cached_pages: FifoCache[str, tuple[int, CandleSlice]] = FifoCache(MAX_CACHED_PAGES)

    async def between(self, series: Series, since: int, until: int) -> CandleSlice:
        """Return candles with open times in [since, until], the forming one too. Raises Unavailable."""
        starts = candle_page_cache.past_pages(TIMEFRAMES[series.timeframe], since, until, FAR_FUTURE) or [0]
        return concat_slices([await self._page(series, start) for start in starts]).between(since, until)

    async def latest(self, series: Series, until: int, count: int) -> CandleSlice:
        """Return the newest `count` stored candles with open times up to `until`. Raises Unavailable."""
        candles = await self.with_warmup(series, {until + 1: count}, until)
        total = len(candles.closed)
        return CandleSlice(candles.columns.slice(max(0, total - count), total), candles.closed[-count:])

    async def with_warmup(self, series: Series, counts: Mapping[int, int], until: int) -> CandleSlice:
        """Return candles with open times up to `until`. For each open time in `counts` there are at least as many
        candles before it, if they are stored. Raises Unavailable.
        """
        timeframe = TIMEFRAMES[series.timeframe]
        since = min(_step_back(timeframe, open_time, count) for open_time, count in counts.items())
        candles = await self.between(series, since, until)
        lacking = shortfall(candles.columns, counts)  # candles are missing in between: as many older ones are needed
        if lacking <= 0:
            return candles
        return concat_slices([_to_slice(await self.pages.reader.latest(series, since - 1, lacking)), candles])

    async def following(self, series: Series, open_time: int, count: int) -> CandleSlice:
        """Return the oldest `count` candles that opened after `open_time`. Raises Unavailable."""
        now = self._now()
        until = min(now, open_time + count * (TIMEFRAMES[series.timeframe].length or MONTH_MS))
        candles = await self.between(series, open_time + 1, until)
        if len(candles.closed) >= count:
            return CandleSlice(candles.columns.slice(0, count), candles.closed[:count])
        if until >= now:
            return candles
        return _to_slice(await self.pages.reader.between(series, open_time + 1, now, count))

    async def daily(self, series: Series, requirements: Requirements, last: int) -> OhlcvColumns | None:
        """Return the closed candles of 1d needed for levels as of the candle at `last`, None if none are needed. Raises
        Unavailable.
        """
        since = requirements.daily_since(TIMEFRAMES[series.timeframe], last)
        if since is None:
            return None
        candles = await self.between(series._replace(timeframe="1d"), since, last)
        return candles.closed_columns

    async def _page(self, series: Series, start: int) -> CandleSlice:
        key, now, monotonic = candle_page_cache.page_key(series, start), self._now(), self._monotonic()
        expires, cached = self._cached_pages.get(key) or (0, None)
        if cached is not None and expires > monotonic:
            return cached
        version, end = self.pages.versions[series], start + (candle_page_cache.page_ms(series) or FAR_FUTURE)
        candles = _to_slice(await self.pages.candles(series, start, min(end - 1, now)))
        if version == self.pages.versions[series]:  # otherwise the candles may be outdated already
            is_final = end + candle_page_cache.FINAL_AFTER_MS <= now
            self._cached_pages.put(key, (monotonic + (COMPLETE_TTL_MS if is_final else FORMING_TTL_MS), candles))
        return candles

    def on_candle(self, candle: Candle) -> None:
        """Forget the page of a candle that is new or has changed."""
        self._cached_pages.drop(candle_page_cache.page_key(candle.series, candle.bar.open_time))


def shortfall(columns: OhlcvColumns, counts: Mapping[int, int]) -> int:
    """Return how many candles are lacking before the open times in `counts`."""
    return max(count - int(np.searchsorted(columns.open_times, time)) for time, count in counts.items())


def _step_back(timeframe: Timeframe, open_time: int, count: int) -> int:
    """Return the open time `count` candles before, at least that of the earliest candle."""
    count = min(count, timeframe.count_between(EARLIEST_CANDLE_MS, open_time))
    return timeframe.step_back(timeframe.open_time(open_time), count)


def _to_slice(candles: Sequence[Candle]) -> CandleSlice:
    return CandleSlice(to_columns(candles), np.array([candle.closed for candle in candles], np.bool_))


def concat_slices(slices: Sequence[CandleSlice]) -> CandleSlice:
    """Return the candles of all slices, in their order."""
    columns = concat_columns([candles.columns for candles in slices])
    return CandleSlice(columns, np.concatenate([candles.closed for candles in slices]))
