"""Pairs of the symbols in files' names: BTCUSDT does not show where its base currency ends."""

from collections.abc import Iterable

import httpx

from services.core.errors import BadFile
from services.core.exchange import Exchange, InstrumentStatus
from services.core.model import Instrument
from services.core.symbols import normalize
from services.outbound import http_client
from services.settings import Settings

# All known quote currencies of Binance's spot market, also former ones. Where two fit, the exchange is queried.
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
    """Pairs of one exchange's symbols: from the arguments, the settings and the store, otherwise from the exchange."""

    def __init__(
        self,
        exchange: Exchange | None,
        stated: Iterable[Instrument],
        known_pairs: Iterable[Instrument],
        settings: Settings,
    ) -> None:
        self._exchange, self._settings = exchange, settings
        self._known = {normalize(str(instrument)): instrument for instrument in (*known_pairs, *stated)}

    async def resolve(self, symbol: str) -> Instrument:
        """Return a symbol's pair. Raises BadFile for an ambiguous symbol."""
        if symbol not in self._known:
            pairs = possible_pairs(symbol)
            self._known[symbol] = pairs[0] if len(pairs) == 1 else await self._look_up(symbol, pairs)
        return self._known[symbol]

    async def _look_up(self, symbol: str, pairs: list[Instrument]) -> Instrument:
        call = self._exchange and self._exchange.find_instrument and self._exchange.find_instrument(symbol)
        try:
            if call and self._exchange:
                async with http_client(self._settings, timeout=EXCHANGE_TIMEOUT_SECONDS) as client:
                    response = await client.get(self._exchange.rest_urls[0] + call.path)
                for event in call.parse(response.content, 0):
                    if isinstance(event, InstrumentStatus):
                        return event.instrument
        except (httpx.HTTPError, ValueError):
            pass  # then the user has to name the pair
        if pairs:
            either = " or ".join(map(str, pairs))
            raise BadFile(f"{symbol} may be {either}: name the pair, for example --symbol {pairs[0]}")
        raise BadFile(f"{symbol} has no known quote currency: name its pair, as in --symbol BASE-QUOTE")


def possible_pairs(symbol: str) -> list[Instrument]:
    """Return the possible pairs of a symbol, the one with the shortest quote currency first."""
    splits = ((symbol[:split_at], symbol[split_at:]) for split_at in range(len(symbol) - 1, 0, -1))
    return [Instrument(base, quote) for base, quote in splits if quote in QUOTE_CURRENCIES]
