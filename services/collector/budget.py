"""What asking costs: a budget per minute that all processes share."""

from collections.abc import Callable

from services.core.errors import Unavailable
from services.core.exchange import Exchange
from services.core.timeframes import MINUTE
from services.ports import Cache, Clock


async def afford(exchange: Exchange, cache: Cache, exchange_now: Callable[[], int], clock: Clock) -> None:
    """Wait until there is room for one more call for history. Without the cache only the caller's pace limits it.

    Minutes are the exchange's: its clock is the same for all processes, and ours may be set.
    """
    while True:
        now = exchange_now()
        try:
            spent = await cache.count(
                f"history:{exchange.name}:{now // MINUTE}", 120, {"weight": exchange.history_weight}
            )
        except Unavailable:
            return
        if spent["weight"] <= exchange.history_budget:
            return
        await clock.sleep(60 - now / 1000 % 60)
