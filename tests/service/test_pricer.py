"""The pricer at work: what it tells while nobody has named the market, and while the cache is away."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from services.adapters.memory import MemoryCache
from services.core.errors import Unavailable
from services.core.model import Choice, Feed, Instrument, Rate, Source, State, Tick
from services.ports import Deps
from services.pricer import JOBS
from tests.simulator import deps_for, until

BTC_USD = Instrument("BTC", "USD")


class Away(MemoryCache):
    """A cache that does not answer."""

    async def put(self, *items: Rate | State | Choice) -> None:
        raise Unavailable("the cache does not answer")

    async def rates(self) -> list[Rate]:
        raise Unavailable("the cache does not answer")


class Empty:
    """A store that keeps nothing."""

    async def rates(self) -> list[Rate]:
        return []


@asynccontextmanager
async def pricing(deps: Deps) -> AsyncIterator[list[Rate]]:
    """The pricer at work, and what it tells."""
    told = list[Rate]()

    async def listen() -> None:
        async with deps.bus.live(Rate) as messages:
            async for message in messages:
                if isinstance(message, Rate):
                    told.append(message)

    tasks = [asyncio.create_task(work) for work in (listen(), *(job(deps) for job in JOBS))]
    await asyncio.sleep(0)
    try:
        yield told
        assert not any(task.done() for task in tasks), "a job ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def tell(deps: Deps, price: int) -> None:
    now = deps.clock.now()
    await deps.bus.publish(Tick("deribit", BTC_USD, now, price=Decimal(price)))


async def name_the_market(deps: Deps) -> None:
    now = deps.clock.now()
    await deps.bus.publish(State("deribit", now, True, "socket", "", "", now, now, 0, simulated=True))


async def test_no_price_is_told_before_its_market_is_named(caplog: pytest.LogCaptureFixture) -> None:
    deps = deps_for(directions=(BTC_USD,), conflate_ms=10)._replace(cache=Away(), store=Empty())  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "services.pricer"):
        async with pricing(deps) as told:
            for price in range(100, 120):
                await tell(deps, price)
                await asyncio.sleep(0.02)
            assert not told
            await name_the_market(deps)
            await until(lambda: told)
            for price in range(120, 140):
                await tell(deps, price)
                await until(lambda price=price: offered(told[-1]) == price)  # type: ignore[misc]
    assert all(rate.simulated for rate in told)
    assert 1 <= caplog.text.count("not told") <= 2


def offered(rate: Rate) -> Decimal | None:
    return next(offer.value for offer in rate.offers if offer.exchange == "deribit")


async def test_a_direction_that_no_exchange_turns_out_to_give_is_told(caplog: pytest.LogCaptureFixture) -> None:
    shib = Instrument("SHIBB", "USD")
    deps = deps_for(directions=(BTC_USD, shib))._replace(cache=Away(), store=Empty())  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "services.pricer"):
        async with pricing(deps) as told:
            for name, missing in {"binance": "USDT", "deribit": "USDC", "coingecko": "USD"}.items():
                assert "SHIBB-USD cannot be given" not in caplog.text
                now = deps.clock.now()
                sources = (Source(Instrument("SHIBB", missing), Feed.ABSENT),)
                for _ in range(2):
                    await deps.bus.publish(State(name, now, True, "socket", "", "", now, now, 0, False, sources))
            await until(lambda: "SHIBB-USD cannot be given" in caplog.text)
            await until(
                lambda: told and told[-1].direction == shib and all("not traded" in o.reason for o in told[-1].offers)
            )
    assert caplog.text.count("cannot be given") == 1
    assert "coingecko: not traded: SHIBB-USD; is it misspelt" in caplog.text
