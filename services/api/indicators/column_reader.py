"""Candles as columns, read by pages that this process keeps: an indicator looks far back, and Decimals are slow."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.api.candles import candle_page_cache
from services.api.candles.candle_page_cache import Pages
from services.core.analysis.blocks import Need
from services.core.history_depth import BEGINNING
from services.core.indicators import Columns, columns
from services.core.indicators import joined as joined_columns
from services.core.model import Candle, Series
from services.core.timeframes import DAY, TIMEFRAMES, Timeframe
from services.ports import Deps
from services.web import Shelf

KEPT = 512  # pages of columns, some 25 kB each
OVER_MS, FORMING_MS = 60_000, 200  # how long a page is kept; the one with the forming candle for one answer's sake
EVER = 2**62
MONTH = 31 * DAY


class Past(NamedTuple):
    """Candles, oldest first, and which of them are closed."""

    columns: Columns
    closed: NDArray[np.bool_]

    @property
    def closed_columns(self) -> Columns:
        """Those that are closed."""
        return Columns(self.columns.time[self.closed], *(column[self.closed] for column in self.columns[1:]))

    def between(self, since: int, until: int) -> "Past":
        """Those with openings in [since, until]."""
        first, end = self.columns.time.searchsorted((since, until + 1)).tolist()
        return Past(self.columns.between(first, end), self.closed[first:end])


class History:
    """The candles of every series."""

    def __init__(self, deps: Deps, pages: Pages) -> None:
        self.pages, self._now, self._monotonic = pages, deps.clock.now, deps.clock.monotonic
        self._shelf: Shelf[str, tuple[int, Past]] = Shelf(KEPT)
        deps.hub.on_candle(self._heard)

    async def between(self, series: Series, since: int, until: int) -> Past:
        """Candles with openings in [since, until], the forming one too. Raises Unavailable."""
        starts = candle_page_cache.over(TIMEFRAMES[series.timeframe], since, until, EVER) or [0]
        return joined([await self._page(series, start) for start in starts]).between(since, until)

    async def last(self, series: Series, until: int, count: int) -> Past:
        """The newest `count` candles with openings up to `until`, over whatever is missing. Raises Unavailable."""
        past = await self.reaching(series, {until + 1: count}, until)
        return Past(past.columns.between(max(0, len(past.closed) - count), len(past.closed)), past.closed[-count:])

    async def reaching(self, series: Series, counts: Mapping[int, int], until: int) -> Past:
        """Candles with openings up to `until`: of each opening in `counts` at least so many before it, if there are.
        Raises Unavailable.
        """
        timeframe = TIMEFRAMES[series.timeframe]
        since = min(_back(timeframe, opening, count) for opening, count in counts.items())
        past = await self.between(series, since, until)
        lack = lacking(past.columns, counts)
        return past if lack <= 0 else joined([_past(await self.pages.reader.last(series, since - 1, lack)), past])

    async def after(self, series: Series, opening: int, count: int) -> Past:
        """The oldest `count` candles that opened after `opening`. Raises Unavailable."""
        now = self._now()
        until = min(now, opening + count * (TIMEFRAMES[series.timeframe].length or MONTH))
        past = await self.between(series, opening + 1, until)
        if len(past.closed) >= count:
            return Past(past.columns.between(0, count), past.closed[:count])
        return past if until >= now else _past(await self.pages.reader.between(series, opening + 1, now, count))

    async def daily(self, series: Series, need: Need, last: int) -> Columns | None:
        """The candles of 1d that levels as of the candle at `last` are made of, all of them closed; None: they need
        none. Raises Unavailable.
        """
        since = need.daily_since(TIMEFRAMES[series.timeframe], last)
        if since is None:
            return None
        past = await self.between(series._replace(timeframe="1d"), since, last)
        return past.closed_columns

    async def _page(self, series: Series, start: int) -> Past:
        name, now, monotonic = candle_page_cache.key(series, start), self._now(), self._monotonic()
        expires, past = self._shelf.get(name) or (0, None)
        if past is not None and expires > monotonic:
            return past
        changes, end = self.pages.changes[series], start + (candle_page_cache.page(series) or EVER)
        past = _past(await self.pages.candles(series, start, min(end - 1, now)))
        if changes == self.pages.changes[series]:  # else what was read may be old already
            over = end + candle_page_cache.SETTLED_MS <= now
            self._shelf.put(name, (monotonic + (OVER_MS if over else FORMING_MS), past))
        return past

    def _heard(self, candle: Candle) -> None:
        self._shelf.drop(candle_page_cache.key(candle.series, candle.bar.timestamp))


def lacking(columns: Columns, counts: Mapping[int, int]) -> int:
    """How many more candles there should be before these."""
    return max(count - int(np.searchsorted(columns.time, opening)) for opening, count in counts.items())


def _back(timeframe: Timeframe, opening: int, count: int) -> int:
    """The opening so many candles before, but none before there was a market."""
    count = min(count, timeframe.expected(BEGINNING, opening))
    return timeframe.back(timeframe.opening(opening), count)


def _past(candles: Sequence[Candle]) -> Past:
    return Past(columns(candles), np.array([candle.closed for candle in candles], np.bool_))


def joined(parts: Sequence[Past]) -> Past:
    """Candles one after the other."""
    return Past(joined_columns([part.columns for part in parts]), np.concatenate([part.closed for part in parts]))
