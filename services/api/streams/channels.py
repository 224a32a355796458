"""What can be followed: channels, by the names under which they are asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from services.api.candles.symbol_catalog import CatalogSymbol, SymbolCatalog
from services.core.errors import BadRange, BadRequest, UnknownName, unknown_name
from services.core.indicators import parse_specs
from services.core.journal import ACTIVE_EXCHANGE_TOPIC, RATES_TOPIC, candle_topic, indicator_topic, status_topic
from services.core.model import Instrument, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps

MAX_CHANNELS = 100  # channels of one client
MAX_NAME_LENGTH = 200
MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 0.1, 86_400  # intervals that a client may ask for
DEFAULT_RATE_INTERVAL_SECONDS = 60  # how often a single rate is told where a client asks for no other interval
CHANNEL_FORMATS = (
    "candles:SYMBOL:TIMEFRAME",
    "indicators:SYMBOL:TIMEFRAME:NAME",
    "courses",
    "connection",
    "source_changed",
)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Channel:
    """Something to follow. `key`: only these entries of its logs; `seconds`: the interval unless asked otherwise."""

    name: str
    topics: tuple[str, ...]
    message_type: str  # of its WebSocket messages
    labels: Mapping[str, str]  # that tell these apart
    key: str = ""
    default_interval: float = 0
    series: Series | None = None
    indicator: str = ""

    @property
    def allows_interval(self) -> bool:
        """Whether a client may ask for an interval: of rates it may, all else is told at each change."""
        return self.topics[0] == RATES_TOPIC


class ChannelRegistry:
    """All channels that this replica knows of."""

    def __init__(self, deps: Deps, listing: SymbolCatalog) -> None:
        self._listing, self._exchanges = listing, deps.settings.exchanges
        self._directions: Mapping[str, Instrument] = {_rate_channel_name(d): d for d in deps.settings.directions}
        self._in_use: WeakValueDictionary[str, Channel] = WeakValueDictionary()  # all who follow one share it

    async def resolve_all(self, names: Sequence[str]) -> list[Channel]:
        """The channels of these names, each once. Raises BadRequest, UnknownName, Unavailable."""
        if not names:
            raise BadRequest(f"no channel is named: write for example {', '.join(self._examples())}")
        check_channel_count(len(names))
        return list(dict.fromkeys([await self.resolve(name) for name in names]))

    async def resolve(self, name: str) -> Channel:
        """The channel of a name. Raises BadRequest, UnknownName, Unavailable."""
        if len(name) > MAX_NAME_LENGTH:
            raise BadRequest(f"{name[:40]!r}… is {len(name)} characters long: a channel has at most {MAX_NAME_LENGTH}")
        known = self._in_use.get(name)
        return known or self._in_use.setdefault(name, await self._create(name))

    async def _create(self, name: str) -> Channel:
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
        if direction := self._directions.get(name.lower().replace("-", "_")):
            words = {"channel": name}
            return Channel(name, (RATES_TOPIC,), "courses_update", words, str(direction), DEFAULT_RATE_INTERVAL_SECONDS)
        raise unknown_name("channel", name, [*self._directions, *CHANNEL_FORMATS])

    async def _candle_channel(self, name: str, rest: str) -> Channel:
        symbol, _, timeframe = rest.rpartition(":")
        series = (await self._resolve_symbol(symbol)).series(_check_timeframe(timeframe))
        words = {**_symbol_labels(symbol), "timeframe": timeframe}
        return Channel(name, (candle_topic(series),), "price_update", words, series=series)

    async def _indicator_channel(self, name: str, rest: str) -> Channel:
        words = rest.split(":")
        place = next((place for place, word in enumerate(words[1:], 1) if word in TIMEFRAMES), 0)
        if not place or place + 1 == len(words):
            raise BadRequest(f"{name[:80]!r} is no channel: write for example indicators:BTCUSDT:1h:sma:20")
        symbol, timeframe = ":".join(words[:place]), words[place]
        (asked,) = parse_specs(":".join(words[place + 1 :]), max_specs=1)
        indicator = str(asked)
        series = (await self._resolve_symbol(symbol)).series(timeframe)
        telling = {**_symbol_labels(symbol), "timeframe": timeframe, "indicator": indicator}
        log = indicator_topic(series, indicator)
        return Channel(name, (log,), "indicator_update", telling, series=series, indicator=indicator)

    async def _resolve_symbol(self, symbol: str) -> CatalogSymbol:
        if not symbol:
            raise UnknownName("a symbol is missing: write for example candles:BTCUSDT:1m")
        return await self._listing.find(symbol)

    def _examples(self) -> list[str]:
        return [next(iter(self._directions)), "courses", "connection", "candles:BTCUSDT:1m"]


def check_channel_count(count: int) -> None:
    """Raises BadRequest for more channels than one client may follow."""
    if count > MAX_CHANNELS:
        raise BadRequest(f"{count} channels are too many: at most {MAX_CHANNELS}")


def candle_channel_name(symbol: str, timeframe: str, exchange: str = "") -> str:
    """The name of a channel of candles."""
    return ":".join(filter(None, ("candles", exchange, symbol, timeframe)))


def indicator_channel_name(symbol: str, timeframe: str, name: str, exchange: str = "") -> str:
    """The name of a channel of an indicator's values."""
    return ":".join(filter(None, ("indicators", exchange, symbol, timeframe, name)))


def check_interval(seconds: float | None) -> float | None:
    """The interval that a client asks for; 0: each change; None: each channel's own. Raises BadRange."""
    if seconds and not MIN_INTERVAL_SECONDS <= seconds <= MAX_INTERVAL_SECONDS:
        raise BadRange(
            f"timer: {seconds:g} is neither 0 (each change) "
            f"nor {MIN_INTERVAL_SECONDS} to {MAX_INTERVAL_SECONDS} seconds"
        )
    return seconds


def _rate_channel_name(direction: Instrument) -> str:
    return f"{direction.base}_{direction.quote}".lower()


def _check_timeframe(name: str) -> str:
    if name not in TIMEFRAMES:
        raise unknown_name("timeframe", name, list(TIMEFRAMES))
    return name


def _symbol_labels(symbol: str) -> dict[str, str]:
    """The symbol as it was asked for, and the exchange if one was named."""
    exchange, _, bare = symbol.rpartition(":")
    return {"exchange": exchange, "symbol": bare} if exchange else {"symbol": bare}
