"""The pricer's loops: consume quotes, compute the rates that changed, publish and cache them."""

import asyncio
import logging
from contextlib import suppress
from decimal import Decimal

from services.bus_input import subscribe
from services.core.errors import Unavailable
from services.core.model import ActiveExchange, ExchangeStatus, Quote, Rate
from services.core.rates import RateCalculator, Thresholds
from services.exchanges import configured_exchanges, route_table
from services.log_throttle import ThrottledLog
from services.ports import Clock, Deps
from services.pricer.pricing_engine import PricingEngine
from services.sequencing import SequencedPublisher, sequenced_publisher
from services.settings import Settings

RECOMPUTE_MS = 100  # between two computations of all rates: a rate without new quotes becomes stale
log = logging.getLogger(__name__)


def thresholds(settings: Settings) -> Thresholds:
    """Return the thresholds from the settings, in ms."""
    return Thresholds(
        max_age_ms=int(settings.fresh_seconds * 1000),
        max_reference_age_ms=int(settings.reference_seconds * 1000),
        max_reference_price_age_ms=int(settings.reference_price_seconds * 1000),
        recovery_ms=int(settings.steady_seconds * 1000),
        max_deviation_bps=Decimal(str(settings.outlier_bps)),
    )


async def price(deps: Deps) -> None:
    """Price until cancelled. While the bus or the cache is unavailable, only the newest rates are retained."""
    settings = deps.settings
    calculator = RateCalculator(
        configured_exchanges(settings), route_table(settings), thresholds(settings), simulated=None
    )
    pricing, publisher = PricingEngine(settings, deps.clock, calculator), sequenced_publisher(deps)
    pricing.restore(await _restore_rates(deps), await _restore_active(deps))
    _warn_slow_reference(deps)
    async with asyncio.TaskGroup() as group:
        group.create_task(_consume(deps, pricing))
        group.create_task(_publish(deps.clock, pricing, publisher))
        group.create_task(_flush_journal(publisher))
        group.create_task(_update_cache(deps, pricing))


def _warn_slow_reference(deps: Deps) -> None:
    """Warn of a reference that is polled less often than its prices stay fresh: most of the time they are stale."""
    limit = deps.settings.reference_price_seconds
    for exchange in deps.exchanges:
        if exchange.is_reference and not exchange.ws_urls and exchange.poll_seconds >= limit:
            log.warning(
                "%s is polled each %.0f s, but its prices count as fresh for %.0f s only; "
                "raise KURS_REFERENCE_PRICE_SECONDS, or lower %sPOLL_SECONDS",
                *(exchange.name, exchange.poll_seconds, limit, exchange.settings_prefix),
            )


async def _consume(deps: Deps, pricing: PricingEngine) -> None:
    async with subscribe(deps, Quote, ExchangeStatus) as messages:
        async for message in messages:
            if isinstance(message, Quote | ExchangeStatus):
                pricing.apply(message)


async def _publish(clock: Clock, pricing: PricingEngine, publisher: SequencedPublisher) -> None:
    throttled_log, last_full_at = ThrottledLog(log), 0
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOMPUTE_MS / 1000):
                await pricing.dirty.wait()
        pricing.dirty.clear()
        if pricing.calculator.simulated is None:  # a collector's status says whether its prices are simulated
            continue
        everything = (now := clock.monotonic()) - last_full_at >= RECOMPUTE_MS
        last_full_at = now if everything else last_full_at
        if updates := pricing.updates(everything):
            try:
                await publisher.publish_unjournaled(*updates)
            except Unavailable as error:
                throttled_log.warning("rates not published, the next ones replace them: %s", error)


async def _flush_journal(publisher: SequencedPublisher) -> None:
    """Append published rates to the journal, also at the end. Subscribers do not wait for it."""
    try:
        while True:
            await publisher.journal_pending.wait()
            await publisher.flush_journal()
    finally:
        await publisher.flush_journal()


async def _update_cache(deps: Deps, pricing: PricingEngine) -> None:
    """Cache the newest rates and statuses, for processes that start. Subscribers do not wait for it."""
    throttled_log = ThrottledLog(log)
    while True:
        await deps.clock.sleep(RECOMPUTE_MS / 1000)
        items, pricing.uncached = pricing.uncached, {}
        try:
            await deps.cache.put_latest(*items.values())
        except Unavailable as error:
            pricing.uncached = items | pricing.uncached
            throttled_log.warning("rates not cached yet: %s", error)


async def _restore_rates(deps: Deps) -> list[Rate]:
    for source in (deps.cache, deps.store):
        try:
            if rates := await source.rates():
                return rates
        except Unavailable as error:
            log.warning("pricer: starts without the last known rates of one source: %s", error)
    return []


async def _restore_active(deps: Deps) -> ActiveExchange | None:
    try:
        return await deps.cache.active_exchange()
    except Unavailable:
        return None
