"""Candles at hand: the newest of each series in memory, older ones from the store when they are needed."""

from collections import defaultdict
from collections.abc import Collection, Iterator

from services.core.candles import resolve
from services.core.model import Candle, CandleSource, Series
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.ports import Store
from services.writer import metrics

CACHED_CANDLES = 300  # candles per series that stay at hand
MAX_LOAD_GAP_BARS = 1_000  # bars; what lies further apart is loaded in two steps


class CandleCache:
    """What is kept, with the changes that are not saved yet. Right as long as nobody else writes candles."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._candles: defaultdict[Series, dict[int, Candle]] = defaultdict(dict)
        self._cached_since: dict[Series, int] = {}  # all candles from there on are at hand
        self.latest_open_time: dict[Series, int] = {}  # the newest opening of each series that was needed
        self.dirty: dict[tuple[Series, int], Candle] = {}
        self.values_changed: dict[Series, set[int]] = {}  # where values changed, not only what vouches for them

    async def newest(self, series: Series) -> Candle | None:
        """The newest candle of a series."""
        await self.load(series, ())
        candles = self._candles[series]
        return candles[max(candles)] if candles else None

    def forget(self, series: Series) -> None:
        """Have nothing of a series at hand any more: it was changed behind the shelf's back."""
        self._candles.pop(series, None)
        self._cached_since.pop(series, None)

    async def load(self, series: Series, open_times: Collection[int]) -> None:
        """Have the candles from the first to the last of these openings at hand until the next `saved`."""
        if series not in self._cached_since:
            rows = await self._store.latest_candles(series, FAR_FUTURE, CACHED_CANDLES)
            self._candles[series] = {row.bar.open_time: row for row in rows}
            if rows:
                self.latest_open_time[series] = rows[-1].bar.open_time
            self._cached_since[series] = rows[0].bar.open_time if len(rows) == CACHED_CANDLES else 0
        known = self._cached_since[series]
        for since, until in _load_ranges(series, [opening for opening in open_times if opening < known]):
            for row in await self._store.candles(series, since, until):
                self._candles[series].setdefault(row.bar.open_time, row)

    def get(self, series: Series, open_time: int) -> Candle | None:
        """A candle that was needed."""
        return self._candles[series].get(open_time)

    def apply(self, new: Candle) -> bool:
        """Keep what `settled` says; answers whether values changed, so that longer candles change too."""
        series, opening = new.series, new.bar.open_time
        old = self._candles[series].get(opening)
        if (
            old
            and {old.source, new.source} & {CandleSource.EXCHANGE}
            and old.closed
            and new.closed
            and old.bar != new.bar
        ):
            metrics.CONTRADICTED_CANDLES.labels(series.exchange).inc()
        kept = resolve(old, new)
        if kept is None:
            return False
        self._candles[series][opening] = self.dirty[series, opening] = kept
        if opening > self.latest_open_time.get(series, -1):
            self.latest_open_time[series] = opening
        if old and (old.bar, old.closed) == (kept.bar, kept.closed):
            return False
        self.values_changed.setdefault(series, set()).add(opening)
        return True

    def mark_clean(self) -> None:
        """The changes are kept; what is old need not stay."""
        for series, candles in self._candles.items():
            if len(candles) > 2 * CACHED_CANDLES:
                newest = sorted(candles)[-CACHED_CANDLES:]
                self._candles[series] = {opening: candles[opening] for opening in newest}
                self._cached_since[series] = max(self._cached_since[series], newest[0])
        self.dirty, self.values_changed = {}, {}


def _load_ranges(series: Series, open_times: Collection[int]) -> Iterator[tuple[int, int]]:
    """Openings as a few ranges, first and last of each."""
    apart = MAX_LOAD_GAP_BARS * (TIMEFRAMES[series.timeframe].length or 31 * DAY_MS)
    since = until = None
    for opening in sorted(open_times):
        if since is None or until is None or opening - until > apart:
            if since is not None and until is not None:
                yield since, until
            since = opening
        until = opening
    if since is not None and until is not None:
        yield since, until
