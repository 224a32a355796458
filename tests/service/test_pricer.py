"""The pricer before its market is known, without a cache, and with directions that no exchange has."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from services.adapters.memory import MemoryCache
from services.core.errors import Unavailable
from services.core.model import ActiveExchange, ExchangeStatus, FeedStatus, Instrument, InstrumentFeed, Quote, Rate
from services.ports import Deps
from services.pricer import JOBS
from services.settings import Settings
from tests.deps import make_deps
from tests.jobs import recorded_messages, running_jobs
from tests.waiting import eventually

BTC_USD = Instrument("BTC", "USD")


class UnavailableCache(MemoryCache):
    """A cache whose server is down."""

    async def put_latest(self, *items: Rate | ExchangeStatus | ActiveExchange) -> None:
        raise Unavailable("the cache does not respond")

    async def rates(self) -> list[Rate]:
        raise Unavailable("the cache does not respond")


def pricer_deps(**settings: Any) -> Deps:
    """Return ports in memory with a cache that is unavailable."""
    return make_deps(Settings(_env_file=None, **settings), cache=UnavailableCache())


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


async def test_rates_are_published_once_the_market_is_known(caplog: pytest.LogCaptureFixture) -> None:
    deps = pricer_deps(directions=(BTC_USD,), conflate_ms=10)
    with caplog.at_level(logging.WARNING, "services.pricer"):
        async with run_pricer(deps) as published:
            for price in range(100, 120):
                await publish_quote(deps, price)
                await asyncio.sleep(0.02)
            assert not published
            await publish_market(deps)
            await eventually(lambda: published)
            for price in range(120, 140):
                await publish_quote(deps, price)
                await eventually(lambda price=price: candidate_value(published[-1]) == price)  # type: ignore[misc]
    assert all(rate.simulated for rate in published)
    assert 1 <= caplog.text.count("rates not cached yet") <= 2


def candidate_value(rate: Rate) -> Decimal | None:
    return next(each.value for each in rate.candidates if each.exchange == "deribit")


async def test_direction_that_no_exchange_has_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    shib = Instrument("SHIBB", "USD")
    deps = pricer_deps(directions=(BTC_USD, shib))
    with caplog.at_level(logging.WARNING, "services.pricer"):
        async with run_pricer(deps) as published:
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
                    published
                    and published[-1].direction == shib
                    and all("not traded" in o.reason for o in published[-1].candidates)
                )
            )
    assert caplog.text.count(": no rate") == 1
    assert "coingecko: not traded: SHIBB-USD: check the spelling" in caplog.text


async def test_active_exchange_is_logged_in_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    deps = pricer_deps()

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
