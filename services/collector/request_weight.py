"""What asking costs: a budget per minute that all processes share."""

from collections.abc import Callable

from services.core.errors import Unavailable
from services.core.exchange import Exchange
from services.core.timeframes import MINUTE_MS
from services.ports import Cache, Clock


class RequestWeightBudget:
    """One exchange's, counted in the cache. What this process has spent itself it knows, whatever the cache forgets.

    Minutes are the exchange's: its clock is the same for all processes, and ours may be set.
    """

    def __init__(self, exchange: Exchange, cache: Cache, exchange_now: Callable[[], int], clock: Clock) -> None:
        self._exchange, self._cache, self._exchange_now, self._clock = exchange, cache, exchange_now, clock
        self._minute, self._own_weight = 0, 0

    async def acquire(self) -> None:
        """Wait until there is room for one more call for history."""
        while True:
            now = self._exchange_now()
            if await self._record_request(now // MINUTE_MS) <= self._exchange.kline_budget:
                return
            await self._clock.sleep(60 - now / 1000 % 60)

    async def _record_request(self, minute: int) -> int:
        """In this minute, with one more call. A cache that is away, full or was emptied knows less than we do."""
        weight, name = self._exchange.kline_weight, self._exchange.name
        self._own_weight = weight + (self._own_weight if minute == self._minute else 0)
        self._minute = minute
        try:
            shared = await self._cache.increment(f"history:{name}:{minute}", 120, {"weight": weight})
        except Unavailable:
            return self._own_weight
        return max(shared["weight"], self._own_weight)
