"""An exchange as a value: where it is, and pure functions between its wire and our words."""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from services.core.bounds import Violation, kline_violation, quote_violation, trade_violation
from services.core.model import Instrument, Kline, Quote, Trade
from services.core.timeframes import TIMEFRAMES

Instruments = Sequence[Instrument]
BANNED_UNTIL = re.compile(rb"banned until (\d{13})\b")  # ms
MAX_ERROR_BODY_BYTES = 2_000  # bytes of a bad answer
MAX_RETRY_SECONDS = 259_200  # seconds; no exchange bans for longer than three days
T = TypeVar("T")


class SequencedQuote(NamedTuple):
    """A tick. `number` is its place, which only grows."""

    quote: Quote
    sequence: int | None = None


class InstrumentStatus(NamedTuple):
    """The exchange does, or does not, give an instrument now."""

    instrument: Instrument
    trading: bool
    reason: str = ""


class SendFrame(NamedTuple):
    """Send this frame on the same connection."""

    frame: str


class Reconnect(NamedTuple):
    """Open another connection, then leave this one."""

    reason: str


class ExchangeRefusal(NamedTuple):
    """The exchange will not serve us here; `wait` is how many seconds it wants to be left alone."""

    reason: str
    retry_seconds: float = 0


class InvalidValue(NamedTuple):
    """One value, or one row of many, that cannot be so: it counts as not given. `reason` is one of a few words."""

    subject: str
    reason: str
    detail: str


Event = SequencedQuote | Trade | Kline | InstrumentStatus | SendFrame | Reconnect | ExchangeRefusal | InvalidValue


class StreamSpec(NamedTuple):
    """What one connection carries: a path to open, frames to begin with, and how a frame is read.

    `read(frame, now)` raises ValueError (msgspec's errors are such) for what cannot be understood; what is well-formed
    but new is ignored.
    """

    path: str
    parse: Callable[[str | bytes, int], Sequence[Event]]
    on_open: tuple[str, ...] = ()


class RestCall(NamedTuple):
    """One GET: its path with the query, and how the body of a good answer is read. `read` raises ValueError.

    What `read` is told is our wall time, which quotes and trades are stamped with; `dated`: the exchange's, which says
    what bars are over.
    """

    path: str
    parse: Callable[[bytes, int], Sequence[Event]]
    uses_exchange_time: bool = False


class RestResponse(NamedTuple):
    """What came back over HTTP. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class RateLimit(NamedTuple):
    """At most `most` in any `seconds`."""

    max_count: int
    seconds: float


class Exchange(NamedTuple):
    """One exchange. The socket loop and the poller in `collector` know no exchange's name: all of it is here.

    Origins are tried in turn; paths are appended to them. `poll` is used while no socket is up, with the trade number
    that is due per instrument; `missed` asks for trades again by their numbers. `history` asks for the closed bars of
    an instrument and a timeframe with openings in [since, until]; None: it does not have such.
    """

    name: str
    rest_urls: tuple[str, ...]
    ping_path: str
    error_text: Callable[[bytes], str]  # the body of a bad answer → what it says, "" when it cannot be read
    retry_delay: Callable[[RestResponse, int], float]  # an answer, the exchange's clock → seconds before the next call
    ws_urls: tuple[str, ...] = ()
    stream: Callable[[Instruments], StreamSpec] | None = None
    instrument_status: Callable[[Instrument], RestCall] | None = None
    instrument_status_weight: int = 0
    find_instrument: Callable[[str], RestCall] | None = (
        None  # which pair a symbol of the exchange's stands for: a Presence says it
    )
    poll: Callable[[Instruments, Mapping[Instrument, int]], tuple[RestCall, ...]] | None = None
    poll_seconds: float = 1.0
    refetch_trades: Callable[[Instrument, range], RestCall] | None = None
    klines: Callable[[Instrument, str, int, int], RestCall | None] | None = None
    klines_per_call: int = 1000  # in one answer
    kline_days: Mapping[str, int] = MappingProxyType({})  # how far back a timeframe goes, where that is little
    kline_weight: int = 1  # of one call
    kline_budget: int = 60  # weight a minute that history may use, of all processes together
    kline_delay_seconds: float = 10.0  # after a bar's close its history is looked at; much longer where calls are dear
    credentials: Callable[[], Mapping[str, str]] = dict  # headers; behind a function, so that no repr shows a key
    max_connection_seconds: float = 23.5 * 3600  # seconds after which a connection is renewed
    idle_timeout: float = 5.0  # seconds without any message after which a connection may be dead
    connect_limit: RateLimit = RateLimit(300, 300)
    send_limit: RateLimit = RateLimit(5, 1)
    value_ttl: float | None = None  # seconds that a value holds after the exchange's own time for it
    simulated: bool = False

    def kline_timeframes(self, instrument: Instrument) -> frozenset[str]:
        """Those of which it gives candles of an instrument."""
        return _kline_timeframes(self.klines, instrument) if self.klines else frozenset()

    def simulated_at(self, root: str) -> "Exchange":
        """This exchange as the simulator at `root` (`http://host:port/simulator`) plays it; no key goes there."""
        origin = f"{root.rstrip('/')}/{self.name}"
        sockets = (origin.replace("http", "ws", 1),) if self.ws_urls else ()
        return self._replace(rest_urls=(origin,), ws_urls=sockets, credentials=dict, simulated=True)


@lru_cache(10_000)  # several services ask it of every pair
def _kline_timeframes(
    klines: Callable[[Instrument, str, int, int], RestCall | None], instrument: Instrument
) -> frozenset[str]:
    return frozenset(name for name in TIMEFRAMES if klines(instrument, name, 0, 0))


def nonzero(value: Decimal | None) -> Decimal | None:
    """A price as such: dead pairs have zeros for it."""
    return value or None


def decode_rows(kind: type[T], body: bytes, subject: str) -> list[T | InvalidValue]:
    """A JSON array of that kind; a row that is not of it costs only itself. Raises ValueError for any other body."""
    try:
        return list(_decoder(list[kind]).decode(body))  # type: ignore[valid-type]
    except ValueError:
        return [decode_row(kind, each, subject) for each in _decoder(list[msgspec.Raw]).decode(body)]


def decode_row(kind: type[T], raw: bytes | msgspec.Raw, subject: str) -> T | InvalidValue:
    """One row of an answer, or one subscription's news."""
    try:
        found: T = _decoder(kind).decode(raw)  # type: ignore[arg-type]  # a type is hashable
    except ValueError as error:
        return InvalidValue(subject, "shape", str(error))
    return found


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def validate_events(events: Sequence[Event], latest: int) -> Sequence[Event]:
    """The events, with a Rejected in place of each whose values are out of range. `latest`: by the exchange's clock."""
    wrong = dict[int, InvalidValue]()
    for place, event in enumerate(events):
        fault: Violation | None = None
        if isinstance(event, Trade):
            fault, subject = trade_violation(event, latest), event.instrument
        elif isinstance(event, SequencedQuote):
            fault, subject = quote_violation(event.quote, latest), event.quote.instrument
        elif isinstance(event, Kline):
            fault, subject = kline_violation(event, latest), event.series.instrument
        if fault:
            wrong[place] = InvalidValue(str(subject), *fault)
    return [wrong.get(place, event) for place, event in enumerate(events)] if wrong else events


def retry_after_seconds(response: RestResponse, now: int, default: float = 60) -> float:
    """Seconds to wait after an answer: what `Retry-After` or the text of a ban says, whichever is longer; without
    either `default` when we asked too often. `now`: by the exchange's clock.
    """
    waits = [
        min(seconds, MAX_RETRY_SECONDS)
        for seconds in (_retry_after_header(response), _ban_seconds(response, now))
        if seconds is not None
    ]
    return max(waits, default=default if response.status in (418, 429) else 0)


def _retry_after_header(response: RestResponse) -> float | None:
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, seconds) if isfinite(seconds) else None


def _ban_seconds(response: RestResponse, now: int) -> float | None:
    """`Way too much request weight used; IP banned until 1700000000000. …`: sometimes nothing else tells the end."""
    found = BANNED_UNTIL.search(response.body[:MAX_ERROR_BODY_BYTES]) if response.status in (403, 418, 429) else None
    return (int(found[1]) - now) / 1000 if found and int(found[1]) > now else None
