"""What history may cost, for all processes together."""

import asyncio
from dataclasses import dataclass

from services.adapters.memory import MemoryCache
from services.collector.budget import afford
from services.exchanges import EXCHANGES

START = 1_704_067_230_000  # half past a minute


@dataclass
class Turned:
    """A clock that passes only by waiting."""

    time: float = START

    def now(self) -> int:
        return int(self.time)

    def monotonic(self) -> int:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        self.time += seconds * 1000


def test_who_has_spent_a_minutes_budget_waits_for_the_next_and_others_share_it() -> None:
    exchange = EXCHANGES["binance"]._replace(history_weight=2, history_budget=20)

    async def play() -> list[int]:
        cache, clocks = MemoryCache(lambda: 0.0), (Turned(), Turned())
        for _ in range(15):
            for clock in clocks:
                await afford(exchange, cache, clock.now, clock)
        return [clock.now() for clock in clocks]

    minute = START // 60_000
    assert [now // 60_000 - minute for now in asyncio.run(play())] == [2, 2]
