"""An exchange as a value: addresses, limits, and pure functions between its protocol and the messages of Kurs."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from services.core.bounds import Violation, kline_violation, quote_violation, trade_violation
from services.core.model import Instrument, Kline, Quote, Trade
from services.core.timeframes import TIMEFRAMES
from services.core.trading_rules import TradingRules, rules_violation

Instruments = Sequence[Instrument]
BANNED_UNTIL = re.compile(rb"banned until (\d{13})\b")  # ms
MAX_ERROR_BODY_BYTES = 2_000
MAX_RETRY_AFTER_SECONDS = 259_200  # no exchange bans for longer than three days
T = TypeVar("T")


class SequencedQuote(NamedTuple):
    """A quote with its sequence number, where the exchange has one."""

    quote: Quote
    sequence: int | None = None


class InstrumentStatus(NamedTuple):
    """Whether the exchange trades an instrument now."""

    instrument: Instrument
    trading: bool
    reason: str = ""


class SendFrame(NamedTuple):
    """An order to send this frame on the same connection."""

    frame: str


class Reconnect(NamedTuple):
    """An order to open another connection, and then to close this one."""

    reason: str


class ExchangeRefusal(NamedTuple):
    """A refusal to serve this connection; the next one may be tried after `retry_seconds`."""

    reason: str
    retry_seconds: float = 0


class InvalidValue(NamedTuple):
    """A value, or one row of many, that is out of range and dropped. `reason` is one of a few words, for counting."""

    subject: str
    reason: str
    detail: str


Event = (
    SequencedQuote
    | Trade
    | Kline
    | InstrumentStatus
    | TradingRules
    | SendFrame
    | Reconnect
    | ExchangeRefusal
    | InvalidValue
)


class StreamSpec(NamedTuple):
    """What to open, what to send first, and how a frame is parsed.

    `parse(frame, now)` raises ValueError (msgspec's errors are such) for a frame that is not well-formed, and returns
    nothing for a well-formed frame of an unknown kind.
    """

    path: str
    parse: Callable[[str | bytes, int], Sequence[Event]]
    on_open: tuple[str, ...] = ()


class RestCall(NamedTuple):
    """One GET: its path with the query, and how the body of a good response is parsed.

    `parse(body, now)` raises ValueError. `now` is our wall time, with which quotes and trades are stamped. With
    `uses_exchange_time` it is the exchange's, which says which candles are closed.
    """

    path: str
    parse: Callable[[bytes, int], Sequence[Event]]
    uses_exchange_time: bool = False


class RestResponse(NamedTuple):
    """A response over HTTP. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class RateLimit(NamedTuple):
    """At most `max_count` in any `seconds`."""

    max_count: int
    seconds: float


class OwnLeg(NamedTuple):
    """A leg at the exchange itself: multiply by the instrument's value, or divide by it."""

    instrument: Instrument
    inverted: bool = False


class OwnRoute(NamedTuple):
    """Legs at the exchange itself from an asset to `currency`; the reference converts the rest of the way."""

    legs: tuple[OwnLeg, ...]
    currency: str


class Exchange(NamedTuple):
    """One exchange. The socket loop, the poller and the pricer know no exchange's name: all of it is here.

    Base URLs are tried in turn; paths are appended to them. docs/adding-an-exchange.md says how to fill it.
    """

    name: str
    rest_urls: tuple[str, ...]
    ping_path: str
    error_text: Callable[[bytes], str]  # the text in the body of an error; "" when it cannot be parsed
    retry_delay: Callable[[RestResponse, int], float]  # a response, the exchange's time → seconds until the next call
    route: Callable[[str, str], OwnRoute | None]  # asset, quote → its own legs; None: it cannot price that
    instruments: Callable[[Instruments], Collection[Instrument]] | None = None  # what it collects of KURS_SYMBOLS
    ws_urls: tuple[str, ...] = ()
    stream: Callable[[Instruments], StreamSpec] | None = None
    poll: Callable[[Instruments, Mapping[Instrument, int]], tuple[RestCall, ...]] | None = None
    """The calls while no socket is open, with the trade id that is expected next, by instrument."""
    poll_seconds: float = 1.0
    instrument_status: Callable[[Instrument], RestCall] | None = None
    instrument_status_weight: int = 0
    find_instrument: Callable[[str], RestCall] | None = None  # the pair of a symbol, as an InstrumentStatus
    refetch_trades: Callable[[Instrument, range], RestCall] | None = None  # by their ids
    klines: Callable[[Instrument, str, int, int], RestCall | None] | None = None
    """The closed candles of an instrument and timeframe with open times in [since, until]; None: it has no such."""
    klines_per_call: int = 1000
    kline_days: Mapping[str, int] = MappingProxyType({})  # how far back a timeframe goes, where that is bounded
    kline_weight: int = 1  # of one call
    kline_budget: int = 60  # weight a minute for past candles, of all processes together
    kline_delay_seconds: float = 10.0  # from a candle's close to its request; longer where calls are expensive
    trading_rules: tuple[RestCall, ...] = ()  # of all its instruments, as TradingRules
    index_price: Callable[[Instrument], RestCall] | None = None  # the current price of an index, as a quote
    credentials: Callable[[], Mapping[str, str]] = dict  # headers; behind a function, so that no repr shows a key
    max_connection_seconds: float = 23.5 * 3600  # after them a connection is replaced
    idle_timeout: float = 5.0  # seconds without any message after which a connection may be dead
    connect_limit: RateLimit = RateLimit(300, 300)
    send_limit: RateLimit = RateLimit(5, 1)
    value_ttl: float | None = None  # seconds after its own time for which a value holds; None: until the next one
    is_reference: bool = False  # it gives mid prices of other exchanges' markets, and converts between currencies
    asset_ids: Mapping[str, str] | None = None  # its ids of assets; None: it knows them by their symbols
    settings_prefix: str = ""  # of the settings that are its own: KURS_NAME_
    has_simulator: bool = False  # services/simulator plays it
    simulated: bool = False

    def kline_timeframes(self, instrument: Instrument) -> frozenset[str]:
        """Return the timeframes of which it has candles of an instrument."""
        return _kline_timeframes(self.klines, instrument) if self.klines else frozenset()

    def simulated_at(self, root: str) -> "Exchange":
        """Return this exchange as the simulator at `root` (`http://host:port/simulator`) plays it, without its key."""
        url = f"{root.rstrip('/')}/{self.name}"
        ws_urls = (url.replace("http", "ws", 1),) if self.ws_urls else ()
        return self._replace(rest_urls=(url,), ws_urls=ws_urls, credentials=dict, simulated=True)


@lru_cache(10_000)  # several services need it for every pair
def _kline_timeframes(
    klines: Callable[[Instrument, str, int, int], RestCall | None], instrument: Instrument
) -> frozenset[str]:
    return frozenset(name for name in TIMEFRAMES if klines(instrument, name, 0, 0))


def nonzero(value: Decimal | None) -> Decimal | None:
    """Return a price, or None for zero, which exchanges send for pairs without a market."""
    return value or None


def decode_rows(kind: type[T], body: bytes, subject: str) -> list[T | InvalidValue]:
    """Decode a JSON array; a row of another shape becomes an InvalidValue. Raises ValueError for any other body."""
    try:
        return list(_decoder(list[kind]).decode(body))  # type: ignore[valid-type]
    except ValueError:
        return [decode_row(kind, row, subject) for row in _decoder(list[msgspec.Raw]).decode(body)]


def decode_row(kind: type[T], raw: bytes | msgspec.Raw, subject: str) -> T | InvalidValue:
    """Decode one row of a response, or one subscription's message."""
    try:
        row: T = _decoder(kind).decode(raw)  # type: ignore[arg-type]  # a type is hashable
    except ValueError as error:
        return InvalidValue(subject, "shape", str(error))
    return row


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def validate_events(events: Sequence[Event], latest: int) -> Sequence[Event]:
    """Replace each event that is out of range by an InvalidValue. `latest` is by the exchange's clock."""
    invalid = dict[int, InvalidValue]()
    for index, event in enumerate(events):
        violation: Violation | None = None
        if isinstance(event, Trade):
            violation, subject = trade_violation(event, latest), event.instrument
        elif isinstance(event, SequencedQuote):
            violation, subject = quote_violation(event.quote, latest), event.quote.instrument
        elif isinstance(event, Kline):
            violation, subject = kline_violation(event, latest), event.series.instrument
        elif isinstance(event, TradingRules):
            violation, subject = rules_violation(event), event.instrument
        if violation:
            invalid[index] = InvalidValue(str(subject), *violation)
    return [invalid.get(index, event) for index, event in enumerate(events)] if invalid else events


def retry_after_seconds(response: RestResponse, now: int, default: float = 60) -> float:
    """Return the seconds until the next call, by `Retry-After` or the text of a ban, whichever is longer.

    Without either it is `default` for 418 and 429, and 0 for the others. `now` is by the exchange's clock.
    """
    delays = [
        min(seconds, MAX_RETRY_AFTER_SECONDS)
        for seconds in (_retry_after_header(response), _ban_seconds(response, now))
        if seconds is not None
    ]
    return max(delays, default=default if response.status in (418, 429) else 0)


def _retry_after_header(response: RestResponse) -> float | None:
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, seconds) if isfinite(seconds) else None


def _ban_seconds(response: RestResponse, now: int) -> float | None:
    """`Way too much request weight used; IP banned until 1700000000000. …`: a ban may have its end in the text only."""
    banned = response.status in (403, 418, 429)
    match = BANNED_UNTIL.search(response.body[:MAX_ERROR_BODY_BYTES]) if banned else None
    return (int(match[1]) - now) / 1000 if match and int(match[1]) > now else None
