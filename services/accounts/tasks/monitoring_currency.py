"""Prices of indices that clients want."""

from msgspec import Struct

from services.accounts.context import TaskContext
from services.accounts.registry import every
from services.core.errors import Unavailable
from services.core.exchange import Exchange, SequencedQuote
from services.core.model import Instrument
from services.core.tasks import TaskQueue
from services.exchange_requests import ExchangeRequests
from services.exchanges import instruments_to_collect
from services.ports import Deps
from services.tickers import TickerPrice, Tickers

EVERY_SECONDS, TIME_LIMIT_SECONDS = 45, 49


class Monitored(Struct):
    """How many tickers were wanted."""

    tickers: int


@every(
    EVERY_SECONDS,
    "monitoring_currency",
    queue=TaskQueue.HIGH,
    time_limit=TIME_LIMIT_SECONDS,
    max_attempts=1,  # the next one follows soon
)
async def monitoring_currency(context: TaskContext) -> Monitored:
    """Request the price of each ticker that any client wants, once for all of them. If none is wanted, do nothing."""
    deps = context.deps
    tickers = Tickers(deps.cache, [(each, instruments_to_collect(each.name, deps.settings)) for each in deps.exchanges])
    wanted = await tickers.wanted()
    failures = [str(error) for error in await _request_all(context, tickers, wanted)]
    if failures:
        raise Unavailable(f"{len(failures)} of {len(wanted)} tickers have no new price: {failures[0]}")
    return Monitored(len(wanted))


async def _request_all(
    context: TaskContext, tickers: Tickers, wanted: list[tuple[Exchange, Instrument]]
) -> list[Unavailable]:
    if not wanted:
        return []
    deps, errors = context.deps, list[Unavailable]()
    requests = ExchangeRequests(deps.settings, deps.cache, deps.clock)
    try:
        for exchange, instrument in wanted:
            try:
                with context.outside():
                    price = await _request(requests, deps, exchange, instrument)
            except Unavailable as error:
                errors.append(error)
            else:
                await tickers.put(price)
    finally:
        await requests.close()
    return errors


async def _request(requests: ExchangeRequests, deps: Deps, exchange: Exchange, instrument: Instrument) -> TickerPrice:
    """Request one price. Raises Unavailable."""
    requested_at = deps.clock.now()
    events = await requests.get(exchange, exchange.index_price(instrument)) if exchange.index_price else []
    prices = [event.quote.mid for event in events if isinstance(event, SequencedQuote)]
    if not prices or prices[0] is None:
        raise Unavailable(f"{exchange.name} sent no price of {instrument}")
    return TickerPrice(exchange=exchange.name, instrument=instrument, price=prices[0], time=requested_at)
