"""The pricer at work: what it tells while nobody has named the market, and while the cache is away."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest

from services.adapters.memory import MemoryCache, MemoryStore
from services.core.errors import Unavailable
from services.core.model import ActiveExchange, ExchangeStatus, FeedStatus, Instrument, InstrumentFeed, Quote, Rate
from services.ports import Deps
from services.pricer import JOBS
from tests.jobs import recorded_messages, running_jobs
from tests.simulator import collector_deps
from tests.waiting import eventually

BTC_USD = Instrument("BTC", "USD")


class UnavailableCache(MemoryCache):
    """A cache that does not answer."""

    async def put_latest(self, *items: Rate | ExchangeStatus | ActiveExchange) -> None:
        raise Unavailable("the cache does not answer")

    async def rates(self) -> list[Rate]:
        raise Unavailable("the cache does not answer")


def without_values(deps: Deps) -> Deps:
    """The ports with a cache that is unavailable and a store without rates."""
    return replace(deps, cache=UnavailableCache(), store=MemoryStore())


@asynccontextmanager
async def run_pricer(deps: Deps) -> AsyncIterator[list[Rate]]:
    """Run the pricer until the block ends; the list has the rates that it publishes."""
    async with recorded_messages(deps.bus, Rate) as rates, running_jobs(*(job(deps) for job in JOBS)):
        yield rates


async def publish_quote(deps: Deps, price: int) -> None:
    now = deps.clock.now()
    await deps.bus.publish(Quote("deribit", BTC_USD, now, price=Decimal(price)))


async def publish_market(deps: Deps) -> None:
    now = deps.clock.now()
    await deps.bus.publish(ExchangeStatus("deribit", now, True, "socket", "", "", now, now, 0, simulated=True))


async def test_no_price_is_told_before_its_market_is_named(caplog: pytest.LogCaptureFixture) -> None:
    deps = without_values(collector_deps(directions=(BTC_USD,), conflate_ms=10))
    with caplog.at_level(logging.WARNING, "services.pricer"):
        async with run_pricer(deps) as told:
            for price in range(100, 120):
                await publish_quote(deps, price)
                await asyncio.sleep(0.02)
            assert not told
            await publish_market(deps)
            await eventually(lambda: told)
            for price in range(120, 140):
                await publish_quote(deps, price)
                await eventually(lambda price=price: candidate_value(told[-1]) == price)  # type: ignore[misc]
    assert all(rate.simulated for rate in told)
    assert 1 <= caplog.text.count("rates not cached yet") <= 2


def candidate_value(rate: Rate) -> Decimal | None:
    return next(offer.value for offer in rate.candidates if offer.exchange == "deribit")


async def test_a_direction_that_no_exchange_turns_out_to_give_is_told(caplog: pytest.LogCaptureFixture) -> None:
    shib = Instrument("SHIBB", "USD")
    deps = without_values(collector_deps(directions=(BTC_USD, shib)))
    with caplog.at_level(logging.WARNING, "services.pricer"):
        async with run_pricer(deps) as told:
            for name, missing in {"binance": "USDT", "deribit": "USDC", "coingecko": "USD"}.items():
                assert "SHIBB-USD: no rate" not in caplog.text
                now = deps.clock.now()
                sources = (InstrumentFeed(Instrument("SHIBB", missing), FeedStatus.ABSENT),)
                for _ in range(2):
                    await deps.bus.publish(
                        ExchangeStatus(name, now, True, "socket", "", "", now, now, 0, False, sources)
                    )
            await eventually(lambda: "SHIBB-USD: no rate" in caplog.text)
            await eventually(
                lambda: (
                    told and told[-1].direction == shib and all("not traded" in o.reason for o in told[-1].candidates)
                )
            )
    assert caplog.text.count(": no rate") == 1
    assert "coingecko: not traded: SHIBB-USD: check the spelling" in caplog.text


async def test_the_first_line_of_the_active_exchange_is_readable(caplog: pytest.LogCaptureFixture) -> None:
    deps = without_values(collector_deps())

    async def logged() -> bool:
        await publish_market(deps)
        return "active exchange: none" in caplog.text

    with caplog.at_level(logging.WARNING, "services.pricer"):
        async with run_pricer(deps):
            await eventually(logged)
    line = next(each for each in caplog.messages if "active exchange" in each)
    count = len(deps.settings.directions)
    for exchange in deps.settings.exchanges:
        assert f"{exchange}: {count} of {count} directions: missing, nothing yet of " in line
    assert len(line) < 300
