"""Channels by the names that clients write."""

from collections.abc import Mapping, Sequence

from services.api.candles.symbol_catalog import CatalogSymbol, SymbolCatalog
from services.api.streams.channels import (
    DEFAULT_RATE_INTERVAL_SECONDS,
    MAX_CHANNEL_NAME_LENGTH,
    Channel,
    check_channel_count,
)
from services.core.accounts.scopes import Scope
from services.core.errors import BadRequest, UnknownName, unknown_name
from services.core.indicators import parse_specs
from services.core.journal import ACTIVE_EXCHANGE_TOPIC, RATES_TOPIC, candle_topic, indicator_topic, status_topic
from services.core.model import Instrument
from services.core.timeframes import TIMEFRAMES
from services.settings import Settings

CHANNEL_FORMATS = (
    "candles:SYMBOL:TIMEFRAME",
    "indicators:SYMBOL:TIMEFRAME:NAME",
    "courses",
    "connection",
    "source_changed",
    "tasks",
)


class ChannelResolver:
    """Creates channels. Those of `in_use` are not created again, so that they resolve without the symbol catalog."""

    def __init__(self, settings: Settings, catalog: SymbolCatalog, in_use: Mapping[str, Channel] | None = None) -> None:
        self._catalog, self._exchanges = catalog, settings.exchanges
        self._in_use = {} if in_use is None else in_use
        self._directions: Mapping[str, Instrument] = {_rate_channel_name(d): d for d in settings.directions}

    async def resolve_all(self, names: Sequence[str]) -> list[Channel]:
        """Return the channels of these names, each once. Raises BadRequest, UnknownName, Unavailable."""
        if not names:
            raise BadRequest(f"no channel is named: write for example {', '.join(self._examples())}")
        check_channel_count(len(names))
        return [await self.resolve(name) for name in dict.fromkeys(names)]

    async def resolve(self, name: str) -> Channel:
        """Return the channel of a name. Raises BadRequest, UnknownName, Unavailable."""
        if len(name) > MAX_CHANNEL_NAME_LENGTH:
            raise BadRequest(
                f"{name[:40]!r}… has {len(name)} characters: a channel name has at most {MAX_CHANNEL_NAME_LENGTH}"
            )
        return self._in_use.get(name) or await self._create(name)

    async def _create(self, name: str) -> Channel:  # noqa: PLR0911  one for each kind of channel
        kind, _, rest = name.partition(":")
        match kind.lower():
            case "candles":
                return await self._candle_channel(name, rest)
            case "indicators":
                return await self._indicator_channel(name, rest)
            case "courses":
                return Channel(name, (RATES_TOPIC,), "courses_update", {"channel": name})
            case "connection":
                return Channel(name, tuple(map(status_topic, self._exchanges)), "connection", {})
            case "source_changed":
                return Channel(name, (ACTIVE_EXCHANGE_TOPIC,), "source_changed", {})
            case "tasks" if name == "tasks":
                return Channel(name, (), "task_update", {}, scope=Scope.READ)
        if direction := self._directions.get(name.lower().replace("-", "_")):
            labels, key = {"channel": name}, str(direction)
            return Channel(name, (RATES_TOPIC,), "courses_update", labels, key, DEFAULT_RATE_INTERVAL_SECONDS)
        raise unknown_name("channel", name, [*self._directions, *CHANNEL_FORMATS])

    async def _candle_channel(self, name: str, rest: str) -> Channel:
        symbol, _, timeframe = rest.rpartition(":")
        series = (await self._resolve_symbol(symbol)).series(_check_timeframe(timeframe))
        labels = {**_symbol_labels(symbol), "timeframe": timeframe}
        return Channel(name, (candle_topic(series),), "price_update", labels, series=series)

    async def _indicator_channel(self, name: str, rest: str) -> Channel:
        """The timeframe ends the symbol, which has a colon itself where it names an exchange."""
        parts = rest.split(":")
        index = next((index for index, part in enumerate(parts[1:], 1) if part in TIMEFRAMES), 0)
        if not index or index + 1 == len(parts):
            raise BadRequest(f"{name[:80]!r} is no channel: write for example indicators:BTCUSDT:1h:sma:20")
        symbol, timeframe = ":".join(parts[:index]), parts[index]
        (spec,) = parse_specs(":".join(parts[index + 1 :]), max_specs=1)
        indicator = str(spec)
        series = (await self._resolve_symbol(symbol)).series(timeframe)
        labels = {**_symbol_labels(symbol), "timeframe": timeframe, "indicator": indicator}
        topics = (indicator_topic(series, indicator),)
        return Channel(name, topics, "indicator_update", labels, series=series, indicator=indicator)

    async def _resolve_symbol(self, symbol: str) -> CatalogSymbol:
        if not symbol:
            raise UnknownName("a symbol is missing: write for example candles:BTCUSDT:1m")
        return await self._catalog.find(symbol)

    def _examples(self) -> list[str]:
        return [next(iter(self._directions)), "courses", "connection", "candles:BTCUSDT:1m"]


def _rate_channel_name(direction: Instrument) -> str:
    return f"{direction.base}_{direction.quote}".lower()


def _check_timeframe(name: str) -> str:
    if name not in TIMEFRAMES:
        raise unknown_name("timeframe", name, list(TIMEFRAMES))
    return name


def _symbol_labels(symbol: str) -> dict[str, str]:
    """Return the symbol as the client wrote it, and the exchange if it named one."""
    exchange, _, bare = symbol.rpartition(":")
    return {"exchange": exchange, "symbol": bare} if exchange else {"symbol": bare}
