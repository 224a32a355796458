"""Candles read by pages. A page that is over is kept in the shared cache until one of its candles changes."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from services.api.candles.served_candles import Reader
from services.core.errors import Unavailable
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES, Timeframe
from services.ports import Deps

PAGE = 500  # openings
SECONDS = 600
DOUBTS = 10_000
SETTLED_MS = 60_000  # after its close a candle may still be corrected by the exchange's own word
_candles = msgspec.json.Decoder(list[Candle])


class Pages:
    """The candles of every series. What a candle that changed makes of a kept page is heard through the hub."""

    def __init__(self, deps: Deps) -> None:
        self._cache, self._now, self.reader = deps.cache, deps.clock.now, Reader(deps)
        self._doubtful: set[str] = set()  # pages in the shared cache that may be older than what we heard
        self.changes: Counter[Series] = Counter()
        deps.hub.on_candle(self._heard)

    async def candles(self, series: Series, since: int, until: int) -> list[Candle]:
        """Candles with openings in [since, until], oldest first, the forming one too. Raises Unavailable."""
        starts, length = over(TIMEFRAMES[series.timeframe], since, until, self._now()), page(series)
        found = await self._kept(series, starts)
        tail = max(since, starts[-1] + length) if starts else since  # the page that is not over yet is not kept
        spans = [(start, start + length - 1) for start in starts if start not in found]
        spans += [(tail, until)] if tail <= until else []
        if spans:
            changes = self.changes[series]
            fresh = await self.reader.between(series, spans[0][0], spans[-1][1])
            for start, end in spans:
                found[start] = _within(fresh, start, end)
                if start in starts and changes == self.changes[series]:  # else what was read may be old already
                    found[start] = [candle for candle in found[start] if candle.closed]
                    await self._keep(key(series, start), found[start])
        return _within([candle for start in sorted(found) for candle in found[start]], since, until)

    async def _kept(self, series: Series, starts: Sequence[int]) -> dict[int, list[Candle]]:
        keys = {start: name for start in starts if (name := key(series, start)) not in self._doubtful}
        try:
            bodies = await self._cache.get(*keys.values()) if keys else []
            return {start: _candles.decode(body) for start, body in zip(keys, bodies, strict=True) if body}
        except (Unavailable, msgspec.MsgspecError):
            return {}

    async def _keep(self, name: str, candles: list[Candle]) -> None:
        self._doubtful.discard(name)  # before it is kept: what is heard meanwhile puts it in doubt again
        try:
            await self._cache.set(name, msgspec.json.encode(candles), SECONDS)
        except Unavailable:
            self._doubtful.add(name)

    def _heard(self, candle: Candle) -> None:
        if not candle.closed:
            return
        self.changes[candle.series] += 1
        self._doubtful.add(key(candle.series, candle.bar.timestamp))
        if len(self._doubtful) > DOUBTS:
            self._doubtful.clear()  # what follows a long history is bounded by how long a page is kept


def over(timeframe: Timeframe, since: int, until: int, now: int) -> list[int]:
    """First openings of the pages that touch [since, until] and whose last candle is settled."""
    if not timeframe.length:
        return []  # 500 months have not passed since the first trade of anything
    length = timeframe.length * PAGE
    starts = range(_start(timeframe, since), until + 1, length)
    return [start for start in starts if start + length + SETTLED_MS <= now]


def settled(timeframe: Timeframe, opening: int, now: int) -> bool:
    """Whether the candle that holds `opening` closed so long ago that nothing more is expected of it."""
    return timeframe.closing(timeframe.opening(opening)) + SETTLED_MS <= now


def key(series: Series, opening: int) -> str:
    """Where the page that holds this opening is kept. The braces keep a symbol's pages on one node of a cluster."""
    start = _start(TIMEFRAMES[series.timeframe], opening)
    return f"candles:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:{start}"


def page(series: Series) -> int:
    """The length of a page in ms; 0: it has none."""
    return TIMEFRAMES[series.timeframe].length * PAGE


def _start(timeframe: Timeframe, opening: int) -> int:
    length = timeframe.length * PAGE
    return (opening - timeframe.origin) // length * length + timeframe.origin if length else 0


def _within(candles: Sequence[Candle], since: int, until: int) -> list[Candle]:
    return [candle for candle in candles if since <= candle.bar.timestamp <= until]
