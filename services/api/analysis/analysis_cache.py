"""Analyses in the shared cache, and which stored rows are still right after candles changed."""

import msgspec

from services.core.analysis import Analysis
from services.core.errors import Unavailable
from services.core.indicators import FORMULA_REVISION, TIMEFRAMES_WITH_DAILY_LEVELS
from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Cache, Clock

CACHE_TTL_SECONDS = 900
_decoder = msgspec.json.Decoder(Analysis)


def analysis_cache_key(series: Series) -> str:
    """Return the key of the newest analysis of a series. The braces put all keys of a symbol on one cluster node."""
    return f"analysis:{{{series.exchange}:{series.instrument}}}:{series.timeframe}:{FORMULA_REVISION}"


class AnalysisCache:
    """The newest analysis of every series. `on_candle` is called with each candle that changes."""

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._cache, self._now = cache, clock.now
        self._suspect: set[Series] = set()  # the cached analysis may be older than a candle that was received
        # Older rows may lack a correction that the analyst has yet to use.
        self._rows_valid_from: dict[Series, int] = {}

    async def get(self, series: Series, open_time: int) -> Analysis | None:
        """Return the cached analysis as of the candle at `open_time`."""
        if series in self._suspect:
            return None
        try:
            (body,) = await self._cache.get(analysis_cache_key(series))
            analysis = _decoder.decode(body) if body else None
        except (Unavailable, msgspec.MsgspecError):
            return None
        return analysis if analysis and analysis.open_time == open_time else None

    async def save(self, series: Series, analysis: Analysis) -> None:
        """Cache an analysis for all replicas."""
        self._suspect.discard(series)  # before it is cached: a candle that arrives meanwhile makes it suspect again
        try:
            await self._cache.set(analysis_cache_key(series), msgspec.json.encode(analysis), CACHE_TTL_SECONDS)
        except Unavailable:
            self._suspect.add(series)

    def row_is_current(self, series: Series, open_time: int) -> bool:
        """Whether a stored row of the candle at `open_time` includes all corrections that were received."""
        return open_time >= self._rows_valid_from.get(series, 0)

    def on_candle(self, candle: Candle) -> None:
        """Note what a closed candle has outdated."""
        if not candle.closed:
            return
        series, timeframe = candle.series, TIMEFRAMES[candle.series.timeframe]
        forming = timeframe.open_time(self._now())
        self._suspect.add(series)
        if candle.revision or timeframe.close_time(candle.bar.open_time) < forming:
            self._rows_valid_from[series] = forming  # its row will be computed after the correction
            for name in TIMEFRAMES_WITH_DAILY_LEVELS if series.timeframe == "1d" else ():
                self._suspect.add(longer := series._replace(timeframe=name))
                self._rows_valid_from[longer] = TIMEFRAMES[name].open_time(self._now())
