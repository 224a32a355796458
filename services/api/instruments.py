"""`/v1/instruments`: what the exchanges list, and which orders they accept."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from pydantic import BaseModel, Field

from services.api.components import ApiComponents
from services.api.page_cursor import format_cursor, parse_cursor
from services.api.schemas import example
from services.core.decimals import format_decimal
from services.core.errors import unknown_name
from services.core.trading_rules import TradingRules
from services.web import Content, Endpoint, Ttl, public

DEFAULT_PAGE, MAX_PAGE = 100, 1_000
DECIMALS = ("tick_size", "step_size", "min_size", "min_notional", "maker_fee", "taker_fee")
EXAMPLE = {
    "exchange": "binance",
    "instrument": "BTC-USDT",
    "symbol": "BTCUSDT",
    "trading": True,
    "tick_size": "0.01",
    "step_size": "0.00001",
    "min_size": "0.00001",
    "min_notional": "5",
    "maker_fee": None,
    "taker_fee": None,
    "time": 1764576000000,
}


class InstrumentsQuery(Struct, kw_only=True, frozen=True):
    """Which instruments, in the order of exchange and symbol."""

    exchange: Annotated[str, Meta(description="Those of one exchange", examples=["binance"])] = ""
    symbol: Annotated[str, Meta(description="BTC-USDT, or the exchange's own name", examples=["BTCUSDT"])] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="At most so many")] = DEFAULT_PAGE
    cursor: Annotated[
        Annotated[str, Meta(extra={"parse": parse_cursor})],
        Meta(description="`next` of the page before", examples=["YmluYW5jZSBCVENVU0RU"]),
    ] = ""


class ListedInstrument(BaseModel):
    """An instrument with its trading rules. Decimals are strings."""

    model_config = example(**EXAMPLE)

    exchange: str
    instrument: str
    symbol: str = Field(description="The exchange's own name")
    trading: bool
    tick_size: str = Field(description="Prices are multiples of it")
    step_size: str = Field(description="Amounts are multiples of it")
    min_size: str
    min_notional: str | None = Field(description="Of price times amount; null: no limit")
    maker_fee: str | None = Field(description="Share of an order's value; null: it depends on the account")
    taker_fee: str | None
    time: int = Field(description="When the exchange sent this, in ms since the epoch")


class InstrumentPage(BaseModel):
    """Instruments, in the order of exchange and symbol."""

    model_config = example(instruments=[EXAMPLE], next=None)

    instruments: list[ListedInstrument]
    next: str | None = Field(description="The cursor of the next page, null at the end")


INSTRUMENTS = Endpoint(
    path="/v1/instruments",
    query=InstrumentsQuery,
    response=InstrumentPage,
    cache=Ttl(60_000, max_entries=64),
    tag="candles",
    operation_id="instruments",
    summary="Instruments and their trading rules",
    description="All that the exchanges list, also what Kurs does not collect, as of the last daily refresh.",
)


class InstrumentsHandler:
    """Instruments."""

    def __init__(self, parts: ApiComponents) -> None:
        self._store, self._exchanges = parts.deps.store, parts.deps.settings.exchanges

    @INSTRUMENTS.handler
    async def instruments(self, query: InstrumentsQuery) -> Content:
        """Return a page. Raises UnknownName, Unavailable."""
        if query.exchange and query.exchange not in self._exchanges:
            raise unknown_name("exchange", query.exchange, self._exchanges)
        symbol = query.symbol.upper()
        found = [
            each
            for each in await self._store.trading_rules(query.exchange or None)
            if _key(each) > query.cursor and (not symbol or symbol in (each.symbol.upper(), str(each.instrument)))
        ]
        page = found[: query.limit]
        following = format_cursor(_key(page[-1])) if len(found) > len(page) else None
        body = {"instruments": [_fields(each) for each in page], "next": following}
        return Content(msgspec.json.encode(body), public(60))


def _key(rules: TradingRules) -> str:
    return f"{rules.exchange} {rules.symbol}"


def _fields(rules: TradingRules) -> dict[str, object]:
    values = {name: getattr(rules, name) for name in ListedInstrument.model_fields}
    texts = {name: None if values[name] is None else format_decimal(values[name]) for name in DECIMALS}
    return values | texts | {"instrument": str(rules.instrument)}
