"""Analyses in the shared cache, and how far to trust them and the store after candles changed."""

import msgspec

from services.core.analysis import Analysis
from services.core.errors import Unavailable
from services.core.indicators import FORMULA_REVISION
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps

CACHE_TTL_SECONDS = 900
TIMEFRAMES_WITH_DAILY_LEVELS = ("3d", "1w")  # their levels are
_decoder = msgspec.json.Decoder(Analysis)


def analysis_cache_key(series: Series) -> str:
    """Where the newest analysis of a series is kept; the braces keep a symbol's on one node of a cluster."""
    return f"analysis:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:{FORMULA_REVISION}"


class AnalysisCache:
    """The newest analysis of every series."""

    def __init__(self, deps: Deps) -> None:
        self._cache, self._now = deps.cache, deps.clock.now
        self._suspect: set[Series] = set()  # what is in the cache may be older than what we heard
        self._rows_valid_from: dict[Series, int] = {}  # rows of earlier openings may be so too, until the analyst comes
        deps.hub.on_candle(self._on_candle)

    async def get(self, series: Series, timestamp: int) -> Analysis | None:
        """The analysis as of the candle that opened then."""
        if series in self._suspect:
            return None
        try:
            (body,) = await self._cache.get(analysis_cache_key(series))
            found = _decoder.decode(body) if body else None
        except (Unavailable, msgspec.MsgspecError):
            return None
        return found if found and found.open_time == timestamp else None

    async def save(self, series: Series, analysis: Analysis) -> None:
        """Keep it for all replicas."""
        self._suspect.discard(series)  # before it is kept: what is heard meanwhile puts it in doubt again
        try:
            await self._cache.set(analysis_cache_key(series), msgspec.json.encode(analysis), CACHE_TTL_SECONDS)
        except Unavailable:
            self._suspect.add(series)

    def row_is_current(self, series: Series, timestamp: int) -> bool:
        """Whether a kept row of that candle knows of all that we heard."""
        return timestamp >= self._rows_valid_from.get(series, 0)

    def _on_candle(self, candle: Candle) -> None:
        if not candle.closed:
            return
        series, forming = candle.series, TIMEFRAMES[candle.series.timeframe].open_time(self._now())
        self._suspect.add(series)
        if candle.revision or TIMEFRAMES[series.timeframe].close_time(candle.bar.open_time) < forming:
            self._rows_valid_from[series] = forming  # whose row will be made after that
            for name in TIMEFRAMES_WITH_DAILY_LEVELS if series.timeframe == "1d" else ():
                self._suspect.add(longer := series._replace(timeframe=name))
                self._rows_valid_from[longer] = TIMEFRAMES[name].open_time(self._now())
