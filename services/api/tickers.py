"""`/v1/tickers/{ticker}`: prices of an exchange's indices, requested from it only while a client wants them."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from pydantic import BaseModel, Field

from services.api.components import ApiComponents
from services.api.schemas import example
from services.core.decimals import format_decimal
from services.core.errors import NothingFresh, unknown_name
from services.exchanges import instruments_to_collect
from services.tickers import TickerPrice, Tickers
from services.web import Content, Endpoint, Ttl, public


class TickerQuery(Struct, kw_only=True, frozen=True):
    """One ticker."""

    ticker: Annotated[str, Meta(description="The name of an index", examples=["btc_usd"])]


class Ticker(BaseModel):
    """The price of an index, as of the last request for it."""

    model_config = example(
        ticker="btc_usd", exchange="deribit", instrument="BTC-USD", price="87003.12", time=1764576000000
    )

    ticker: str
    exchange: str
    instrument: str
    price: str
    time: int = Field(description="When it was requested from the exchange, in ms since the epoch")


TICKER = Endpoint(
    path="/v1/tickers/{ticker}",
    query=TickerQuery,
    response=Ticker,
    cache=Ttl(1_000, max_entries=64),
    tag="rates",
    operation_id="ticker",
    summary="The price of an index",
    description="The first request for a ticker has it requested from the exchange every 45 seconds, once for all "
    "clients and until 15 minutes after the last request; until the first price is there the response is 503.",
)


class TickerHandler:
    """Tickers."""

    def __init__(self, parts: ApiComponents) -> None:
        deps = parts.deps
        self._tickers = Tickers(
            deps.cache, [(each, instruments_to_collect(each.name, deps.settings)) for each in deps.exchanges]
        )

    @TICKER.handler
    async def ticker(self, query: TickerQuery) -> Content:
        """Return a price. Raises UnknownName, NothingFresh, Unavailable."""
        name = query.ticker.lower()
        if name not in self._tickers.known:
            raise unknown_name("ticker", query.ticker, list(self._tickers.known))
        await self._tickers.want(name)
        price = await self._tickers.price(name)
        if price is None:
            raise NothingFresh(f"{name} is requested from now on: try again within 45 seconds")
        return Content(_body(price), public(1))


def _body(price: TickerPrice) -> bytes:
    fields = {"ticker": price.ticker, "exchange": price.exchange, "instrument": str(price.instrument)}
    return msgspec.json.encode({**fields, "price": format_decimal(price.price), "time": price.time})
