"""What asking costs: a budget per minute that all processes share."""

from collections.abc import Callable

from services.core.errors import Unavailable
from services.core.exchange import Exchange
from services.core.timeframes import MINUTE
from services.ports import Cache, Clock


class Budget:
    """One exchange's, counted in the cache. What this process has spent itself it knows, whatever the cache forgets.

    Minutes are the exchange's: its clock is the same for all processes, and ours may be set.
    """

    def __init__(self, exchange: Exchange, cache: Cache, exchange_now: Callable[[], int], clock: Clock) -> None:
        self._exchange, self._cache, self._now, self._clock = exchange, cache, exchange_now, clock
        self._minute, self._own = 0, 0

    async def afford(self) -> None:
        """Wait until there is room for one more call for history."""
        while True:
            now = self._now()
            if await self._spent(now // MINUTE) <= self._exchange.history_budget:
                return
            await self._clock.sleep(60 - now / 1000 % 60)

    async def _spent(self, minute: int) -> int:
        """In this minute, with one more call. A cache that is away, full or was emptied knows less than we do."""
        weight, name = self._exchange.history_weight, self._exchange.name
        self._own = weight + (self._own if minute == self._minute else 0)
        self._minute = minute
        try:
            shared = await self._cache.count(f"history:{name}:{minute}", 120, {"weight": weight})
        except Unavailable:
            return self._own
        return max(shared["weight"], self._own)
