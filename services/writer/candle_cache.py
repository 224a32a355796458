"""Candles at hand: the newest of each series in memory, older ones from the store when they are needed."""

from collections import defaultdict
from collections.abc import Collection, Iterator

from services.core.candles import settled
from services.core.model import Candle, Origin, Series
from services.core.timeframes import DAY, TIMEFRAMES
from services.ports import Store
from services.writer import metrics

NEWEST = 300  # candles per series that stay at hand
APART = 1_000  # bars; what lies further apart is loaded in two steps
FOREVER = 2**62


class Shelf:
    """What is kept, with the changes that are not saved yet. Right as long as nobody else writes candles."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._candles: defaultdict[Series, dict[int, Candle]] = defaultdict(dict)
        self._since: dict[Series, int] = {}  # all candles from there on are at hand
        self.latest: dict[Series, int] = {}  # the newest opening of each series that was needed
        self.changed: dict[tuple[Series, int], Candle] = {}
        self.revalued: dict[Series, set[int]] = {}  # where values changed, not only what vouches for them

    async def newest(self, series: Series) -> Candle | None:
        """The newest candle of a series."""
        await self.need(series, ())
        candles = self._candles[series]
        return candles[max(candles)] if candles else None

    def forget(self, series: Series) -> None:
        """Have nothing of a series at hand any more: it was changed behind the shelf's back."""
        self._candles.pop(series, None)
        self._since.pop(series, None)

    async def need(self, series: Series, openings: Collection[int]) -> None:
        """Have the candles from the first to the last of these openings at hand until the next `saved`."""
        if series not in self._since:
            rows = await self._store.last(series, FOREVER, NEWEST)
            self._candles[series] = {row.bar.timestamp: row for row in rows}
            if rows:
                self.latest[series] = rows[-1].bar.timestamp
            self._since[series] = rows[0].bar.timestamp if len(rows) == NEWEST else 0
        known = self._since[series]
        for since, until in _stretches(series, [opening for opening in openings if opening < known]):
            for row in await self._store.candles(series, since, until):
                self._candles[series].setdefault(row.bar.timestamp, row)

    def get(self, series: Series, opening: int) -> Candle | None:
        """A candle that was needed."""
        return self._candles[series].get(opening)

    def put(self, new: Candle) -> bool:
        """Keep what `settled` says; answers whether values changed, so that longer candles change too."""
        series, opening = new.series, new.bar.timestamp
        old = self._candles[series].get(opening)
        if old and {old.source, new.source} & {Origin.EXCHANGE} and old.closed and new.closed and old.bar != new.bar:
            metrics.DIFFERENCES.labels(series.exchange).inc()
        kept = settled(old, new)
        if kept is None:
            return False
        self._candles[series][opening] = self.changed[series, opening] = kept
        if opening > self.latest.get(series, -1):
            self.latest[series] = opening
        if old and (old.bar, old.closed) == (kept.bar, kept.closed):
            return False
        self.revalued.setdefault(series, set()).add(opening)
        return True

    def saved(self) -> None:
        """The changes are kept; what is old need not stay."""
        for series, candles in self._candles.items():
            if len(candles) > 2 * NEWEST:
                newest = sorted(candles)[-NEWEST:]
                self._candles[series] = {opening: candles[opening] for opening in newest}
                self._since[series] = max(self._since[series], newest[0])
        self.changed, self.revalued = {}, {}


def _stretches(series: Series, openings: Collection[int]) -> Iterator[tuple[int, int]]:
    """Openings as a few ranges, first and last of each."""
    apart = APART * (TIMEFRAMES[series.timeframe].length or 31 * DAY)
    since = until = None
    for opening in sorted(openings):
        if since is None or until is None or opening - until > apart:
            if since is not None and until is not None:
                yield since, until
            since = opening
        until = opening
    if since is not None and until is not None:
        yield since, until
