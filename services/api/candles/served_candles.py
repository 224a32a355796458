"""Candles as clients get them: closed ones, and the one that is forming now.

A candle that was forming when some of its parts were lost stays stored until they arrive. It is not served: its values
are incomplete.
"""

from collections.abc import Sequence

from services.core.model import Candle, Series
from services.core.timeframes import TIMEFRAMES
from services.hub import Hub
from services.ports import Store

FORMING_GRACE_MS = 120_000  # after its end, in which a candle may still be closed


class ServedCandles:
    """The store's candles. Its methods raise Unavailable."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store, self._hub = store, hub

    async def between(self, series: Series, since: int, until: int, limit: int | None = None) -> list[Candle]:
        """Return candles with open times in [since, until], oldest first; the oldest `limit` of them."""
        forming_since = self.forming_since(series)
        return _drop_outdated_forming(
            await self._store.candles(series, since, until, limit, forming_since=forming_since)
        )

    async def latest(self, series: Series, until: int, count: int) -> list[Candle]:
        """Return the newest `count` candles with open times up to `until`, oldest first."""
        return _drop_outdated_forming(
            await self._store.latest_candles(series, until, count, forming_since=self.forming_since(series))
        )

    def forming_since(self, series: Series) -> int:
        """Return the first open time whose candle may still be forming, by the exchange's clock."""
        return TIMEFRAMES[series.timeframe].open_time(self._hub.exchange_now(series.exchange) - FORMING_GRACE_MS)


def _drop_outdated_forming(candles: Sequence[Candle]) -> list[Candle]:
    """Drop candles that are not closed although another follows."""
    return [candle for candle in candles[:-1] if candle.closed] + [*candles[-1:]]
