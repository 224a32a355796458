"""`/api/symbols` and `/api/timeframes`."""

from services.api.candles import schemas
from services.api.components import ApiComponents
from services.core.timeframes import TIMEFRAMES
from services.web import Content, Endpoint, NoQuery, Ttl, public

SYMBOL_LIST = Endpoint(
    path="/api/symbols",
    query=NoQuery,
    aliases=("/v1/symbols",),
    response=schemas.Symbols,
    cache=Ttl(1_000, max_entries=1),
    tag="candles",
    operation_id="symbols",
    summary="Everything that has candles",
    description="Symbols with their exchanges and timeframes.",
)
TIMEFRAME_LIST = Endpoint(
    path="/api/timeframes",
    query=NoQuery,
    aliases=("/v1/timeframes",),
    response=schemas.Timeframes,
    cache=Ttl(3_600_000, max_entries=1),
    tag="candles",
    operation_id="timeframes",
    summary="All timeframes",
    description="Boundaries are in UTC; weeks begin on Monday, three days are counted from 2 January 1970.",
)


class SymbolHandlers:
    """The names that queries about candles accept."""

    def __init__(self, parts: ApiComponents) -> None:
        self._symbols = parts.symbols

    @SYMBOL_LIST.handler
    async def symbols(self, _query: NoQuery) -> Content:
        """Return every instrument that has candles. Raises Unavailable."""
        rows = [
            schemas.Symbol(
                symbol=str(symbol.instrument),
                exchange=symbol.exchange,
                base=symbol.instrument.base,
                quote=symbol.instrument.quote,
                contract=symbol.instrument.contract or None,
                timeframes=list(symbol.timeframes),
            )
            for symbol in await self._symbols.symbols()
        ]
        return Content(schemas.Symbols(symbols=rows).model_dump_json().encode(), public(60))

    @TIMEFRAME_LIST.handler
    def timeframes(self, _query: NoQuery) -> Content:
        """Return every timeframe."""
        rows = [
            schemas.Timeframe(timeframe=timeframe.name, milliseconds=timeframe.length or None)
            for timeframe in TIMEFRAMES.values()
        ]
        return Content(schemas.Timeframes(timeframes=rows).model_dump_json().encode(), public(3600))
