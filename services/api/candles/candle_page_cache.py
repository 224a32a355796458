"""Candles read by pages. A page that is past is in the shared cache until one of its candles changes."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from services.api.candles.served_candles import ServedCandles
from services.core.errors import Unavailable
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Cache, Clock

PAGE_CANDLES = 500
CACHE_SECONDS = 600
MAX_SUSPECT_PAGES = 10_000
FINAL_AFTER_MS = 60_000  # after its close the exchange's own kline may still correct a candle
_candles = msgspec.json.Decoder(list[Candle])


class CandlePageCache:
    """The candles of every series. `on_candle` is called with each candle that changes."""

    def __init__(self, *, cache: Cache, clock: Clock, reader: ServedCandles) -> None:
        self._cache, self._now, self.reader = cache, clock.now, reader
        self._suspect: set[str] = set()  # pages in the shared cache that may be older than a received candle
        self.versions: Counter[Series] = Counter()

    async def candles(self, series: Series, since: int, until: int) -> list[Candle]:
        """Return candles with open times in [since, until], oldest first, the forming one too. Raises Unavailable."""
        starts, length = past_pages(TIMEFRAMES[series.timeframe], since, until, self._now()), page_ms(series)
        pages = await self._cached_pages(series, starts)
        tail = max(since, starts[-1] + length) if starts else since  # the page that is not past is not cached
        spans = [(start, start + length - 1) for start in starts if start not in pages]
        spans += [(tail, until)] if tail <= until else []
        if spans:
            version = self.versions[series]
            fresh = await self.reader.between(series, spans[0][0], spans[-1][1])
            for start, end in spans:
                pages[start] = _within(fresh, start, end)
                # Otherwise the candles may have changed while they were read.
                if start in starts and version == self.versions[series]:
                    pages[start] = [candle for candle in pages[start] if candle.closed]
                    await self._cache_page(page_key(series, start), pages[start])
        return _within([candle for start in sorted(pages) for candle in pages[start]], since, until)

    async def _cached_pages(self, series: Series, starts: Sequence[int]) -> dict[int, list[Candle]]:
        keys = {start: name for start in starts if (name := page_key(series, start)) not in self._suspect}
        try:
            bodies = await self._cache.get(*keys.values()) if keys else []
            return {start: _candles.decode(body) for start, body in zip(keys, bodies, strict=True) if body}
        except (Unavailable, msgspec.MsgspecError):
            return {}

    async def _cache_page(self, name: str, candles: list[Candle]) -> None:
        self._suspect.discard(name)  # first, so that a candle received during the write makes the page suspect again
        try:
            await self._cache.set(name, msgspec.json.encode(candles), CACHE_SECONDS)
        except Unavailable:
            self._suspect.add(name)

    def on_candle(self, candle: Candle) -> None:
        """Forget what a closed candle has outdated."""
        if not candle.closed:
            return
        self.versions[candle.series] += 1
        self._suspect.add(page_key(candle.series, candle.bar.open_time))
        if len(self._suspect) > MAX_SUSPECT_PAGES:
            self._suspect.clear()  # after a long backfill: the lifetime of pages bounds the error


def past_pages(timeframe: Timeframe, since: int, until: int, now: int) -> list[int]:
    """Return the first open times of the pages that overlap [since, until] and whose last candle is final."""
    if not timeframe.length:
        return []  # 500 months have not passed since the first trade of anything
    length = timeframe.length * PAGE_CANDLES
    starts = range(_page_start(timeframe, since), until + 1, length)
    return [start for start in starts if start + length + FINAL_AFTER_MS <= now]


def is_final(timeframe: Timeframe, opening: int, now: int) -> bool:
    """Whether the candle that contains a time closed long enough ago to be final."""
    return timeframe.close_time(timeframe.open_time(opening)) + FINAL_AFTER_MS <= now


def page_key(series: Series, opening: int) -> str:
    """Return the key of the page with this open time. The braces keep a symbol's pages on one node of a cluster."""
    start = _page_start(TIMEFRAMES[series.timeframe], opening)
    return f"candles:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:{start}"


def page_ms(series: Series) -> int:
    """Return the length of a page in ms; 0: months, which have no pages."""
    return TIMEFRAMES[series.timeframe].length * PAGE_CANDLES


def _page_start(timeframe: Timeframe, opening: int) -> int:
    length = timeframe.length * PAGE_CANDLES
    return (opening - timeframe.offset) // length * length + timeframe.offset if length else 0


def _within(candles: Sequence[Candle], since: int, until: int) -> list[Candle]:
    return [candle for candle in candles if since <= candle.bar.open_time <= until]
