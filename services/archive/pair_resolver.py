"""Which pair the symbol in a file's name stands for: BTCUSDT does not say where its base ends."""

from collections.abc import Iterable

import httpx

from services.core.errors import BadFile
from services.core.exchange import Exchange, InstrumentStatus
from services.core.model import Instrument
from services.core.symbols import normalize
from services.outbound import http_client
from services.settings import Settings

# All that Binance's spot ever quoted in, as far as is known. Where two of them fit, the exchange is asked.
QUOTE_CURRENCIES = frozenset(
    (
        *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "PAX", "USDS", "USDSB", "USD1", "RLUSD", "BFUSD", "USDE"),
        *("XUSD", "UST", "DAI", "VAI", "BTC", "ETH", "BNB", "XRP", "TRX", "DOGE", "DOT", "SOL", "EUR", "AEUR", "EURI"),
        *("GBP", "AUD", "TRY", "BRL", "RUB", "UAH", "NGN", "ZAR", "PLN", "RON", "ARS", "JPY", "MXN", "CZK", "COP"),
        *("IDR", "IDRT", "BIDR", "BKRW", "BVND", "KZT"),
    )
)
EXCHANGE_TIMEOUT_SECONDS = 3


class PairResolver:
    """Symbols of one exchange: as the user stated them, as settings and the store know them, else as it lists them."""

    def __init__(
        self, exchange: Exchange | None, stated: Iterable[Instrument], known: Iterable[Instrument], settings: Settings
    ) -> None:
        self._exchange, self._settings = exchange, settings
        self._known = {normalize(str(instrument)): instrument for instrument in (*known, *stated)}

    async def resolve(self, symbol: str) -> Instrument:
        """The pair. Raises BadFile, which says how to name it."""
        if symbol not in self._known:
            found = possible_pairs(symbol)
            self._known[symbol] = found[0] if len(found) == 1 else await self._look_up(symbol, found)
        return self._known[symbol]

    async def _look_up(self, symbol: str, found: list[Instrument]) -> Instrument:
        ask = self._exchange and self._exchange.find_instrument and self._exchange.find_instrument(symbol)
        try:
            if ask and self._exchange:
                async with http_client(self._settings, timeout=EXCHANGE_TIMEOUT_SECONDS) as client:
                    answer = await client.get(self._exchange.rest_urls[0] + ask.path)
                for event in ask.parse(answer.content, 0):
                    if isinstance(event, InstrumentStatus):
                        return event.instrument
        except (httpx.HTTPError, ValueError):
            pass  # then only the user knows
        if found:
            either = " or ".join(map(str, found))
            raise BadFile(f"{symbol} may be {either}: say which, for example --symbol {found[0]}")
        raise BadFile(f"{symbol} could be split anywhere: name its pair, as in --symbol BASE-QUOTE")


def possible_pairs(symbol: str) -> list[Instrument]:
    """The pairs that a symbol may stand for, the one with the shortest quote first."""
    splits = ((symbol[:place], symbol[place:]) for place in range(len(symbol) - 1, 0, -1))
    return [Instrument(base, quote) for base, quote in splits if quote in QUOTE_CURRENCIES]
