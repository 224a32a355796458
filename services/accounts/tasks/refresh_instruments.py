"""Trading rules of all instruments."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from services.accounts.context import TaskContext
from services.accounts.registry import every
from services.core.errors import Unavailable
from services.core.exchange import Exchange
from services.core.trading_rules import TradingRules
from services.exchange_requests import ExchangeRequests

DAY_SECONDS = 86_400


class Refreshed(Struct):
    """How many instruments each exchange has."""

    instruments: dict[str, int]


@every(DAY_SECONDS, "refresh_instruments", time_limit=120)
async def refresh_instruments(context: TaskContext) -> Refreshed:
    """Save which instruments the exchanges list, with the prices and amounts that they accept, and their fees.

    What is no longer listed stays, and does not trade. An exchange that does not respond delays no other one.
    """
    deps, counts, failures = context.deps, dict[str, int](), list[str]()
    exchanges = [each for each in deps.exchanges if each.trading_rules]
    requests = ExchangeRequests(deps.settings, deps.cache, deps.clock)
    try:
        for number, exchange in enumerate(exchanges):
            try:
                rules = await _request(context, requests, exchange)
            except Unavailable as error:
                failures.append(f"{exchange.name}: {error}")
                continue
            await deps.store.save(*rules, *_delisted(await deps.store.trading_rules(exchange.name), rules))
            counts[exchange.name] = len(rules)
            await context.progress(100 * (number + 1) // len(exchanges))
    finally:
        await requests.close()
    if failures:
        raise Unavailable("; ".join(failures))
    return Refreshed(counts)


async def _request(context: TaskContext, requests: ExchangeRequests, exchange: Exchange) -> list[TradingRules]:
    """Request all rules of an exchange. Raises Unavailable, also where it lists nothing: that would delist all."""
    with context.outside():
        events = [event for call in exchange.trading_rules for event in await requests.get(exchange, call)]
    rules = [event for event in events if isinstance(event, TradingRules)]
    if not rules:
        raise Unavailable("it lists no instrument")
    return rules


def _delisted(stored: Sequence[TradingRules], listed: Sequence[TradingRules]) -> list[TradingRules]:
    symbols = {rules.symbol for rules in listed}
    return [replace(rules, trading=False) for rules in stored if rules.trading and rules.symbol not in symbols]
