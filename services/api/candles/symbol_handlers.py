"""`/api/symbols` and `/api/timeframes`."""

from services.api.candles import schemas
from services.api.candles.symbol_catalog import SymbolCatalog
from services.core.timeframes import TIMEFRAMES
from services.web import CachedResponse, Headers


class SymbolHandlers:
    """What there is to ask for."""

    def __init__(self, listing: SymbolCatalog) -> None:
        self._listing = listing

    async def symbols(self, _query: bytes) -> CachedResponse:
        """Every instrument that has candles. Raises Unavailable."""
        rows = [
            schemas.Symbol(
                symbol=str(symbol.instrument),
                exchange=symbol.exchange,
                base=symbol.instrument.base,
                quote=symbol.instrument.quote,
                contract=symbol.instrument.contract or None,
                timeframes=list(symbol.timeframes),
            )
            for symbol in await self._listing.symbols()
        ]
        return CachedResponse(schemas.Symbols(symbols=rows).model_dump_json().encode(), _headers(60), compress=True)

    async def timeframes(self, _query: bytes) -> CachedResponse:
        """Every timeframe."""
        rows = [
            schemas.Timeframe(timeframe=timeframe.name, milliseconds=timeframe.length or None)
            for timeframe in TIMEFRAMES.values()
        ]
        return CachedResponse(
            schemas.Timeframes(timeframes=rows).model_dump_json().encode(), _headers(3600), compress=True
        )


def _headers(seconds: int) -> Headers:
    return [
        (b"content-type", b"application/json"),
        (b"cache-control", b"public, max-age=%d" % seconds),
        (b"vary", b"Origin, Accept-Encoding"),
    ]
