"""The symbols that have candles: the only names that a question may hold."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec
from msgspec import Struct

from services.core.conversion import collected
from services.core.errors import Unavailable, UnknownName, unknown_name
from services.core.model import Candle, Instrument, Series
from services.core.symbols import bare, split, unknown_symbol
from services.core.timeframes import rolled_up
from services.ports import Deps
from services.web import Once

KEY, SECONDS = "symbols:list", 3600
KNOWN_MS = 60_000  # how long this process needs not look again
AGAIN_MS = 1_000  # how often it looks again because candles of an unlisted series were heard
T = TypeVar("T")


class Symbol(Struct, frozen=True):
    """An instrument at an exchange, with the timeframes that can be had: given by the exchange, imported, rolled up."""

    exchange: str
    instrument: Instrument
    timeframes: tuple[str, ...]

    def series(self, timeframe: str) -> Series:
        """Its candles of one timeframe. Raises UnknownName where there are none."""
        if timeframe not in self.timeframes:
            raise unknown_name(f"timeframe of {self.exchange} {self.instrument}", timeframe, self.timeframes)
        return Series(self.exchange, self.instrument, timeframe)


class Listing:
    """All symbols: of the configured exchanges first, in their order."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._symbols: list[Symbol] = []
        self._named: dict[tuple[str, str], Symbol] = {}  # by exchange, or "" for the first that has it, and bare name
        self._series: set[Series] = set()
        self._news = False  # of a series that is not listed
        self._read: int | None = None  # when
        self._once: Once[bool, None] = Once()
        deps.hub.on_candle(self._heard)

    async def symbols(self) -> Sequence[Symbol]:
        """All of them. Raises Unavailable."""
        if self._read is None or self._deps.clock.monotonic() - self._read >= KNOWN_MS:
            await self._once.make(False, self._look)
        return self._symbols

    async def find(self, name: str, exchange: str = "") -> Symbol:
        """`BTC-USDT`, `BTCUSDT` or `BINANCE:BTCUSDT`, at the first exchange that has it. Raises UnknownName."""
        return await self._known(lambda: self._find(name, exchange))

    async def series(self, name: str, exchange: str, timeframe: str) -> Series:
        """A symbol's candles of one timeframe. Raises UnknownName."""
        return await self._known(lambda: self._find(name, exchange).series(timeframe))

    async def _known(self, find: Callable[[], T]) -> T:
        """What is found in the list. What is not costs nothing, unless something was heard that is not in it yet."""
        await self.symbols()
        try:
            return find()
        except UnknownName:
            if not self._news or (self._read is not None and self._deps.clock.monotonic() - self._read < AGAIN_MS):
                raise
        await self._once.make(True, self._look)
        return find()

    def _find(self, name: str, exchange: str) -> Symbol:
        prefix, symbol = split(name)
        exchange = exchange.lower() or prefix
        found = self._named.get((exchange, bare(symbol)))
        if found is None:
            raise unknown_symbol(symbol, exchange, [(each.exchange, each.instrument) for each in self._symbols])
        return found

    async def _look(self, anew: bool) -> None:
        """Read them, `anew` from the store whatever the cache has. Those who want them at once share the reading."""
        self._news = False  # before it is read: what is heard meanwhile is news again
        found = [] if anew else await self._cached()
        self._symbols, self._read = found or await self._stored(), self._deps.clock.monotonic()
        self._series = {symbol.series(timeframe) for symbol in self._symbols for timeframe in symbol.timeframes}
        self._named = {}
        for symbol in self._symbols:
            for exchange in (symbol.exchange, ""):
                self._named.setdefault((exchange, bare(str(symbol.instrument))), symbol)

    def _heard(self, candle: Candle) -> None:
        if candle.series not in self._series:
            self._news = True

    async def _cached(self) -> list[Symbol]:
        try:
            (body,) = await self._deps.cache.get(KEY)
            return msgspec.json.decode(body, type=list[Symbol]) if body else []
        except (Unavailable, msgspec.MsgspecError):
            return []

    async def _stored(self) -> list[Symbol]:
        kept = await self._deps.store.series()
        symbols = listed([*configured(self._deps), *kept], self._deps.settings.exchanges)
        with suppress(Unavailable):  # then the next one looks into the store as well
            await self._deps.cache.set(KEY, msgspec.json.encode(symbols), SECONDS)
        return symbols


def listed(series: Iterable[Series], order: Sequence[str]) -> list[Symbol]:
    """The symbols of these series, those of the exchanges in `order` first."""
    kept: dict[tuple[str, Instrument], set[str]] = {}
    for exchange, instrument, timeframe in series:
        kept.setdefault((exchange, instrument), set()).add(timeframe)
    symbols = [
        Symbol(exchange, instrument, rolled_up(timeframes)) for (exchange, instrument), timeframes in kept.items()
    ]
    places = {name: place for place, name in enumerate(order)}
    return sorted(symbols, key=lambda s: (places.get(s.exchange, len(places)), s.exchange, str(s.instrument)))


def configured(deps: Deps) -> Iterable[Series]:
    """What the configured exchanges give candles of, kept already or not."""
    settings = deps.settings
    for exchange in deps.exchanges:
        instruments = collected(exchange.name, settings.directions, settings.assets, settings.symbols)
        for instrument in instruments:
            yield from (Series(exchange.name, instrument, name) for name in exchange.timeframes(instrument))
