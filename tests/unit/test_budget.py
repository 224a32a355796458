"""The request weight that all collectors of an exchange share for history."""

import asyncio
from collections.abc import Mapping

import pytest

from services.adapters.memory import MemoryCache
from services.collector.request_weight import RequestWeightBudget
from services.core.errors import Unavailable
from services.exchanges import EXCHANGES
from tests.clocks import ManualClock

START = 1_704_067_230_000  # half past a minute


def test_spent_budget_is_shared_and_waits_for_the_next_minute() -> None:
    exchange = EXCHANGES["binance"]._replace(kline_weight=2, kline_budget=20)

    async def play() -> list[int]:
        cache, clocks = MemoryCache(lambda: 0.0), (ManualClock(START, advances=True), ManualClock(START, advances=True))
        budgets = [RequestWeightBudget(exchange, cache, clock.now, clock) for clock in clocks]
        for _ in range(15):
            for budget in budgets:
                await budget.acquire()
        return [clock.now() for clock in clocks]

    minute = START // 60_000
    assert [now // 60_000 - minute for now in asyncio.run(play())] == [2, 2]


class ForgetfulCache(MemoryCache):
    """A cache that is unavailable, or loses its counters before each request."""

    def __init__(self, unavailable: bool) -> None:
        super().__init__(lambda: 0.0)
        self.unavailable = unavailable

    async def increment(self, window: str, ttl_seconds: int, counts: Mapping[str, int]) -> dict[str, int]:
        if self.unavailable:
            raise Unavailable("the cache (Redis) is full")
        self._windows.clear()
        return await super().increment(window, ttl_seconds, counts)


@pytest.mark.parametrize("unavailable", [True, False], ids=["unavailable", "emptied"])
def test_process_counts_its_own_weight_when_the_cache_forgets(unavailable: bool) -> None:
    exchange = EXCHANGES["binance"]._replace(kline_weight=2, kline_budget=20)

    async def play() -> int:
        clock = ManualClock(START, advances=True)
        budget = RequestWeightBudget(exchange, ForgetfulCache(unavailable), clock.now, clock)
        for _ in range(25):
            await budget.acquire()
        return clock.now()

    assert asyncio.run(play()) // 60_000 - START // 60_000 == 2
