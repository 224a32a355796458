"""Analyses in the shared cache, and how far to trust them and the store after candles changed."""

import msgspec

from services.core.analysis import Analysis
from services.core.errors import Unavailable
from services.core.indicators import REVISION
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps

SECONDS = 900
MADE_OF_DAYS = ("3d", "1w")  # their levels are
_analysis = msgspec.json.Decoder(Analysis)


def key(series: Series) -> str:
    """Where the newest analysis of a series is kept; the braces keep a symbol's on one node of a cluster."""
    return f"analysis:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:{REVISION}"


class Cached:
    """The newest analysis of every series."""

    def __init__(self, deps: Deps) -> None:
        self._cache, self._now = deps.cache, deps.clock.now
        self._doubtful: set[Series] = set()  # what is in the cache may be older than what we heard
        self._corrected: dict[Series, int] = {}  # rows of earlier openings may be so too, until the analyst comes
        deps.hub.on_candle(self._heard)

    async def get(self, series: Series, timestamp: int) -> Analysis | None:
        """The analysis as of the candle that opened then."""
        if series in self._doubtful:
            return None
        try:
            (body,) = await self._cache.get(key(series))
            found = _analysis.decode(body) if body else None
        except (Unavailable, msgspec.MsgspecError):
            return None
        return found if found and found.timestamp == timestamp else None

    async def keep(self, series: Series, found: Analysis) -> None:
        """Keep it for all replicas."""
        self._doubtful.discard(series)  # before it is kept: what is heard meanwhile puts it in doubt again
        try:
            await self._cache.set(key(series), msgspec.json.encode(found), SECONDS)
        except Unavailable:
            self._doubtful.add(series)

    def trusts(self, series: Series, timestamp: int) -> bool:
        """Whether a kept row of that candle knows of all that we heard."""
        return timestamp >= self._corrected.get(series, 0)

    def _heard(self, candle: Candle) -> None:
        if not candle.closed:
            return
        series, forming = candle.series, TIMEFRAMES[candle.series.timeframe].opening(self._now())
        self._doubtful.add(series)
        if candle.revision or TIMEFRAMES[series.timeframe].closing(candle.bar.timestamp) < forming:
            self._corrected[series] = forming  # whose row will be made after that
            for name in MADE_OF_DAYS if series.timeframe == "1d" else ():
                self._doubtful.add(longer := series._replace(timeframe=name))
                self._corrected[longer] = TIMEFRAMES[name].opening(self._now())
