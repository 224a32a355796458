"""The symbols that have candles: the only names that queries accept."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec
from msgspec import Struct

from services.core.errors import Unavailable, UnknownName, unknown_name
from services.core.exchange import Exchange
from services.core.model import Candle, Instrument, Series
from services.core.symbols import normalize, split_exchange, unknown_symbol
from services.core.timeframes import with_roll_ups
from services.exchanges import instruments_to_collect
from services.ports import Cache, Clock, Store
from services.settings import Settings
from services.web import SingleFlight

CACHE_KEY, CACHE_SECONDS = "symbols:list", 3600
CATALOG_TTL_MS = 60_000  # in this process
MIN_RELOAD_MS = 1_000  # between reloads for candles of series that are not in the catalog
T = TypeVar("T")


class CatalogSymbol(Struct, frozen=True):
    """An instrument at an exchange, with its timeframes: those of the exchange, imported ones, and roll-ups."""

    exchange: str
    instrument: Instrument
    timeframes: tuple[str, ...]

    def series(self, timeframe: str) -> Series:
        """Return its series of one timeframe. Raises UnknownName where there is none."""
        if timeframe not in self.timeframes:
            raise unknown_name(f"timeframe of {self.exchange} {self.instrument}", timeframe, self.timeframes)
        return Series(self.exchange, self.instrument, timeframe)


class SymbolCatalog:
    """All symbols: of `configured` series and of stored ones. Those of the exchanges in `order` come first."""

    def __init__(
        self, *, store: Store, cache: Cache, clock: Clock, configured: Sequence[Series], order: Sequence[str]
    ) -> None:
        self._store, self._cache, self._clock = store, cache, clock
        self._configured, self._order = configured, order
        self._symbols: list[CatalogSymbol] = []
        # By exchange, or "" for the first that has it, and normalized name.
        self._by_name: dict[tuple[str, str], CatalogSymbol] = {}
        self._series: set[Series] = set()
        self._has_unlisted = False  # a candle of a series that is not in the catalog was received
        self._loaded_at: int | None = None  # monotonic
        self._single_flight: SingleFlight[bool, None] = SingleFlight()

    async def symbols(self) -> Sequence[CatalogSymbol]:
        """Return all of them. Raises Unavailable."""
        if self._loaded_at is None or self._clock.monotonic() - self._loaded_at >= CATALOG_TTL_MS:
            await self._single_flight.run(False, self._reload)
        return self._symbols

    async def find(self, name: str, exchange: str = "") -> CatalogSymbol:
        """Find `BTC-USDT`, `BTCUSDT` or `BINANCE:BTCUSDT` at the first exchange that has it. Raises UnknownName."""
        return await self._find_or_reload(lambda: self._find(name, exchange))

    async def series(self, name: str, exchange: str, timeframe: str) -> Series:
        """Return a symbol's series of one timeframe. Raises UnknownName."""
        return await self._find_or_reload(lambda: self._find(name, exchange).series(timeframe))

    async def _find_or_reload(self, find: Callable[[], T]) -> T:
        """Find in the catalog. A name that is missing reloads it only if a candle was received that is not in it."""
        await self.symbols()
        try:
            return find()
        except UnknownName:
            if not self._has_unlisted or (
                self._loaded_at is not None and self._clock.monotonic() - self._loaded_at < MIN_RELOAD_MS
            ):
                raise
        await self._single_flight.run(True, self._reload)
        return find()

    def _find(self, name: str, exchange: str) -> CatalogSymbol:
        prefix, symbol = split_exchange(name)
        exchange = exchange.lower() or prefix
        match = self._by_name.get((exchange, normalize(symbol)))
        if match is None:
            raise unknown_symbol(symbol, exchange, [(each.exchange, each.instrument) for each in self._symbols])
        return match

    async def _reload(self, skip_cache: bool) -> None:
        """Reload the catalog; with `skip_cache` from the store."""
        self._has_unlisted = False  # before the read, so that a candle received during it counts
        cached = [] if skip_cache else await self._from_cache()
        self._symbols, self._loaded_at = cached or await self._from_store(), self._clock.monotonic()
        self._series = {symbol.series(timeframe) for symbol in self._symbols for timeframe in symbol.timeframes}
        self._by_name = {}
        for symbol in self._symbols:
            for exchange in (symbol.exchange, ""):
                self._by_name.setdefault((exchange, normalize(str(symbol.instrument))), symbol)

    def on_candle(self, candle: Candle) -> None:
        """Note a series that is not listed."""
        if candle.series not in self._series:
            self._has_unlisted = True

    async def _from_cache(self) -> list[CatalogSymbol]:
        try:
            (body,) = await self._cache.get(CACHE_KEY)
            return msgspec.json.decode(body, type=list[CatalogSymbol]) if body else []
        except (Unavailable, msgspec.MsgspecError):
            return []

    async def _from_store(self) -> list[CatalogSymbol]:
        stored = await self._store.series()
        symbols = to_symbols([*self._configured, *stored], self._order)
        with suppress(Unavailable):  # then the next replica reads the store as well
            await self._cache.set(CACHE_KEY, msgspec.json.encode(symbols), CACHE_SECONDS)
        return symbols


def to_symbols(series: Iterable[Series], order: Sequence[str]) -> list[CatalogSymbol]:
    """Return the symbols of these series, those of the exchanges in `order` first."""
    timeframes_by_instrument: dict[tuple[str, Instrument], set[str]] = {}
    for exchange, instrument, timeframe in series:
        timeframes_by_instrument.setdefault((exchange, instrument), set()).add(timeframe)
    symbols = [
        CatalogSymbol(exchange, instrument, with_roll_ups(timeframes))
        for (exchange, instrument), timeframes in timeframes_by_instrument.items()
    ]
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(symbols, key=lambda s: (ranks.get(s.exchange, len(ranks)), s.exchange, str(s.instrument)))


def configured_series(exchanges: Iterable[Exchange], settings: Settings) -> Iterable[Series]:
    """Return the series of the configured exchanges, stored already or not."""
    for exchange in exchanges:
        instruments = instruments_to_collect(exchange.name, settings)
        for instrument in instruments:
            yield from (Series(exchange.name, instrument, name) for name in exchange.kline_timeframes(instrument))
