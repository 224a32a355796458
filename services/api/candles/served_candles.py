"""Candles as clients get them: closed ones, and the one that is forming now.

One that was forming when some of its parts were lost is kept until they come, but is none: it has a part of its values.
"""

from collections.abc import Sequence

from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps

FORMING_GRACE_MS = 120_000  # ms after its end in which a candle may still be closed


class ServedCandles:
    """The store, for what is answered. Raises Unavailable."""

    def __init__(self, deps: Deps) -> None:
        self._store, self._hub = deps.store, deps.hub

    async def between(self, series: Series, since: int, until: int, limit: int | None = None) -> list[Candle]:
        """Candles with openings in [since, until], oldest first; the oldest `limit` of them."""
        forming_since = self.forming_since(series)
        return _drop_outdated_forming(
            await self._store.candles(series, since, until, limit, forming_since=forming_since)
        )

    async def latest(self, series: Series, until: int, count: int) -> list[Candle]:
        """The newest `count` candles with openings up to `until`, oldest first."""
        return _drop_outdated_forming(
            await self._store.latest_candles(series, until, count, forming_since=self.forming_since(series))
        )

    def forming_since(self, series: Series) -> int:
        """The first opening whose candle may be forming still, by the exchange's clock."""
        return TIMEFRAMES[series.timeframe].open_time(self._hub.exchange_now(series.exchange) - FORMING_GRACE_MS)


def _drop_outdated_forming(candles: Sequence[Candle]) -> list[Candle]:
    """Without those that are followed by another although they were not closed."""
    return [candle for candle in candles[:-1] if candle.closed] + [*candles[-1:]]
