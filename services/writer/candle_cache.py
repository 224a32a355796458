"""Cache of stored candles: the newest of each series always, older ones when they are loaded."""

from collections import defaultdict
from collections.abc import Collection, Iterator

from services.core.candles import resolve
from services.core.model import Candle, CandleSource, Series
from services.core.timeframes import DAY_MS, TIMEFRAMES
from services.core.times import FAR_FUTURE
from services.ports import Store
from services.writer import metrics

CACHED_CANDLES = 300  # per series
MAX_LOAD_GAP_BARS = 1_000  # open times further apart are loaded by two queries
LONGEST_MONTH_MS = 31 * DAY_MS


class StoredCandleCache:
    """Stored candles with the changes that are not saved yet. It is right while no other process writes candles."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._candles: defaultdict[Series, dict[int, Candle]] = defaultdict(dict)
        self._cached_since: dict[Series, int] = {}  # all candles from this open time on are cached
        self.latest_open_time: dict[Series, int] = {}  # of the series that were loaded
        self.dirty: dict[tuple[Series, int], Candle] = {}
        # Open times of dirty candles, unless only their source changed.
        self.values_changed: dict[Series, set[int]] = {}

    async def newest(self, series: Series) -> Candle | None:
        """Return the newest candle of a series."""
        await self.load(series, ())
        candles = self._candles[series]
        return candles[max(candles)] if candles else None

    def forget(self, series: Series) -> None:
        """Drop a series, whose rows were changed in the store directly."""
        self._candles.pop(series, None)
        self._cached_since.pop(series, None)

    async def load(self, series: Series, open_times: Collection[int]) -> None:
        """Cache the candles from the first to the last of these open times until the next `mark_clean`."""
        if series not in self._cached_since:
            rows = await self._store.latest_candles(series, FAR_FUTURE, CACHED_CANDLES)
            self._candles[series] = {row.bar.open_time: row for row in rows}
            if rows:
                self.latest_open_time[series] = rows[-1].bar.open_time
            self._cached_since[series] = rows[0].bar.open_time if len(rows) == CACHED_CANDLES else 0
        cached_since = self._cached_since[series]
        for since, until in _load_ranges(series, [time for time in open_times if time < cached_since]):
            for row in await self._store.candles(series, since, until):
                self._candles[series].setdefault(row.bar.open_time, row)

    def get(self, series: Series, open_time: int) -> Candle | None:
        """Return a candle that was loaded."""
        return self._candles[series].get(open_time)

    def apply(self, incoming: Candle) -> bool:
        """Keep whichever `resolve` prefers. Return whether values changed, so that longer candles change too."""
        series, open_time = incoming.series, incoming.bar.open_time
        stored = self._candles[series].get(open_time)
        if stored and _contradicts(stored, incoming):
            metrics.CONTRADICTED_CANDLES.labels(series.exchange).inc()
        preferred = resolve(stored, incoming)
        if preferred is None:
            return False
        self._candles[series][open_time] = self.dirty[series, open_time] = preferred
        if open_time > self.latest_open_time.get(series, -1):
            self.latest_open_time[series] = open_time
        if stored and (stored.bar, stored.closed) == (preferred.bar, preferred.closed):
            return False
        self.values_changed.setdefault(series, set()).add(open_time)
        return True

    def mark_clean(self) -> None:
        """Note that all changes are saved, and drop old candles."""
        for series, candles in self._candles.items():
            if len(candles) > 2 * CACHED_CANDLES:
                newest = sorted(candles)[-CACHED_CANDLES:]
                self._candles[series] = {open_time: candles[open_time] for open_time in newest}
                self._cached_since[series] = max(self._cached_since[series], newest[0])
        self.dirty, self.values_changed = {}, {}


def _contradicts(stored: Candle, incoming: Candle) -> bool:
    """Return whether two closed candles differ, one of which is the exchange's."""
    if CandleSource.EXCHANGE not in (stored.source, incoming.source):
        return False
    return stored.closed and incoming.closed and stored.bar != incoming.bar


def _load_ranges(series: Series, open_times: Collection[int]) -> Iterator[tuple[int, int]]:
    """Group open times into a few ranges; yield the first and last of each."""
    max_gap = MAX_LOAD_GAP_BARS * (TIMEFRAMES[series.timeframe].length or LONGEST_MONTH_MS)
    ordered = sorted(open_times)
    if not ordered:  # nearly always: what is needed is cached
        return
    starts = [i for i, time in enumerate(ordered) if i == 0 or time - ordered[i - 1] > max_gap]
    for start, end in zip(starts, [*starts[1:], len(ordered)], strict=True):
        yield ordered[start], ordered[end - 1]
