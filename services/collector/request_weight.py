"""Request weight of klines: a budget per minute that all processes share."""

from collections.abc import Callable

from services.core.errors import Unavailable
from services.core.exchange import Exchange
from services.core.timeframes import MINUTE_MS
from services.ports import Cache, Clock

COUNTER_TTL_SECONDS = 120


class RequestWeightBudget:
    """Budget of one exchange, counted in the cache. This process counts its own requests too.

    Minutes are the exchange's: its clock is the same for all processes, and ours may be set.
    """

    def __init__(self, exchange: Exchange, cache: Cache, exchange_now: Callable[[], int], clock: Clock) -> None:
        self._exchange, self._cache, self._exchange_now, self._clock = exchange, cache, exchange_now, clock
        self._minute, self._own_weight = 0, 0

    async def acquire(self) -> None:
        """Wait until one more request for klines fits."""
        while True:
            now = self._exchange_now()
            if await self._record_request(now // MINUTE_MS) <= self._exchange.kline_budget:
                return
            await self._clock.sleep(60 - now / 1000 % 60)

    async def _record_request(self, minute: int) -> int:
        """Return the weight used in this minute, one more request included.

        A cache that is unavailable, full or was emptied knows of less than this process does.
        """
        weight, name = self._exchange.kline_weight, self._exchange.name
        self._own_weight = weight + (self._own_weight if minute == self._minute else 0)
        self._minute = minute
        try:
            shared = await self._cache.increment(f"history:{name}:{minute}", COUNTER_TTL_SECONDS, {"weight": weight})
        except Unavailable:
            return self._own_weight
        return max(shared["weight"], self._own_weight)
