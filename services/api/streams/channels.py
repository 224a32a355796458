"""What can be followed: channels, by the names under which they are asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from services.api.candles.symbol_catalog import Listing, Symbol
from services.core.errors import BadRange, BadRequest, UnknownName, unknown_name
from services.core.indicators import parse
from services.core.journal import CHOICE, RATES, candle_log, reading_log, state_log
from services.core.model import Instrument, Series
from services.core.timeframes import TIMEFRAMES
from services.ports import Deps

MOST = 100  # channels of one client
LONGEST_NAME = 200
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 86_400  # intervals that a client may ask for
RATE_SECONDS = 60  # how often a single rate is told where a client asks for no other interval
FORMS = ("candles:SYMBOL:TIMEFRAME", "indicators:SYMBOL:TIMEFRAME:NAME", "courses", "connection", "source_changed")


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Channel:
    """Something to follow. `key`: only these entries of its logs; `seconds`: the interval unless asked otherwise."""

    name: str
    logs: tuple[str, ...]
    kind: str  # of its WebSocket messages
    words: Mapping[str, str]  # that tell these apart
    key: str = ""
    seconds: float = 0
    series: Series | None = None
    indicator: str = ""

    @property
    def paced(self) -> bool:
        """Whether a client may ask for an interval: of rates it may, all else is told at each change."""
        return self.logs[0] == RATES


class Channels:
    """All channels that this replica knows of."""

    def __init__(self, deps: Deps, listing: Listing) -> None:
        self._listing, self._exchanges = listing, deps.settings.exchanges
        self._directions: Mapping[str, Instrument] = {_rate_name(d): d for d in deps.settings.directions}
        self._known: WeakValueDictionary[str, Channel] = WeakValueDictionary()  # all who follow one share it

    async def all(self, names: Sequence[str]) -> list[Channel]:
        """The channels of these names, each once. Raises BadRequest, UnknownName, Unavailable."""
        if not names:
            raise BadRequest(f"no channel is named: write for example {', '.join(self._examples())}")
        within_limit(len(names))
        return list(dict.fromkeys([await self.find(name) for name in names]))

    async def find(self, name: str) -> Channel:
        """The channel of a name. Raises BadRequest, UnknownName, Unavailable."""
        if len(name) > LONGEST_NAME:
            raise BadRequest(f"{name[:40]!r}… is {len(name)} characters long: a channel has at most {LONGEST_NAME}")
        known = self._known.get(name)
        return known or self._known.setdefault(name, await self._made(name))

    async def _made(self, name: str) -> Channel:
        kind, _, rest = name.partition(":")
        match kind.lower():
            case "candles":
                return await self._candles(name, rest)
            case "indicators":
                return await self._indicator(name, rest)
            case "courses":
                return Channel(name, (RATES,), "courses_update", {"channel": name})
            case "connection":
                return Channel(name, tuple(map(state_log, self._exchanges)), "connection", {})
            case "source_changed":
                return Channel(name, (CHOICE,), "source_changed", {})
        if direction := self._directions.get(name.lower().replace("-", "_")):
            words = {"channel": name}
            return Channel(name, (RATES,), "courses_update", words, str(direction), RATE_SECONDS)
        raise unknown_name("channel", name, [*self._directions, *FORMS])

    async def _candles(self, name: str, rest: str) -> Channel:
        symbol, _, timeframe = rest.rpartition(":")
        series = (await self._symbol(symbol)).series(_timeframe(timeframe))
        words = {**_named(symbol), "timeframe": timeframe}
        return Channel(name, (candle_log(series),), "price_update", words, series=series)

    async def _indicator(self, name: str, rest: str) -> Channel:
        words = rest.split(":")
        place = next((place for place, word in enumerate(words[1:], 1) if word in TIMEFRAMES), 0)
        if not place or place + 1 == len(words):
            raise BadRequest(f"{name[:80]!r} is no channel: write for example indicators:BTCUSDT:1h:sma:20")
        symbol, timeframe = ":".join(words[:place]), words[place]
        (asked,) = parse(":".join(words[place + 1 :]), most=1)
        indicator = str(asked)
        series = (await self._symbol(symbol)).series(timeframe)
        telling = {**_named(symbol), "timeframe": timeframe, "indicator": indicator}
        log = reading_log(series, indicator)
        return Channel(name, (log,), "indicator_update", telling, series=series, indicator=indicator)

    async def _symbol(self, symbol: str) -> Symbol:
        if not symbol:
            raise UnknownName("a symbol is missing: write for example candles:BTCUSDT:1m")
        return await self._listing.find(symbol)

    def _examples(self) -> list[str]:
        return [next(iter(self._directions)), "courses", "connection", "candles:BTCUSDT:1m"]


def within_limit(count: int) -> None:
    """Raises BadRequest for more channels than one client may follow."""
    if count > MOST:
        raise BadRequest(f"{count} channels are too many: at most {MOST}")


def candles(symbol: str, timeframe: str, exchange: str = "") -> str:
    """The name of a channel of candles."""
    return ":".join(filter(None, ("candles", exchange, symbol, timeframe)))


def indicator(symbol: str, timeframe: str, name: str, exchange: str = "") -> str:
    """The name of a channel of an indicator's values."""
    return ":".join(filter(None, ("indicators", exchange, symbol, timeframe, name)))


def interval(seconds: float | None) -> float | None:
    """The interval that a client asks for; 0: each change; None: each channel's own. Raises BadRange."""
    if seconds and not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise BadRange(
            f"timer: {seconds:g} is neither 0 (each change) nor {SHORTEST_SECONDS} to {LONGEST_SECONDS} seconds"
        )
    return seconds


def _rate_name(direction: Instrument) -> str:
    return f"{direction.base}_{direction.quote}".lower()


def _timeframe(name: str) -> str:
    if name not in TIMEFRAMES:
        raise unknown_name("timeframe", name, list(TIMEFRAMES))
    return name


def _named(symbol: str) -> dict[str, str]:
    """The symbol as it was asked for, and the exchange if one was named."""
    exchange, _, bare = symbol.rpartition(":")
    return {"exchange": exchange, "symbol": bare} if exchange else {"symbol": bare}
