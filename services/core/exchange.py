"""An exchange as a value: where it is, and pure functions between its wire and our words."""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from services.core.bounds import Fault, kline_fault, tick_fault, trade_fault
from services.core.model import Instrument, Kline, Tick, Trade
from services.core.timeframes import TIMEFRAMES

Instruments = Sequence[Instrument]
BANNED = re.compile(rb"banned until (\d{13})\b")  # ms
BODY_READ = 2_000  # bytes of a bad answer
LONGEST_WAIT = 259_200  # seconds; no exchange bans for longer than three days
T = TypeVar("T")


class Heard(NamedTuple):
    """A tick. `number` is its place, which only grows."""

    tick: Tick
    number: int | None = None


class Presence(NamedTuple):
    """The exchange does, or does not, give an instrument now."""

    instrument: Instrument
    present: bool
    reason: str = ""


class Send(NamedTuple):
    """Send this frame on the same connection."""

    frame: str


class Renew(NamedTuple):
    """Open another connection, then leave this one."""

    reason: str


class Refused(NamedTuple):
    """The exchange will not serve us here; `wait` is how many seconds it wants to be left alone."""

    reason: str
    wait: float = 0


class Rejected(NamedTuple):
    """One value, or one row of many, that cannot be so: it counts as not given. `reason` is one of a few words."""

    subject: str
    reason: str
    detail: str


Event = Heard | Trade | Kline | Presence | Send | Renew | Refused | Rejected


class Stream(NamedTuple):
    """What one connection carries: a path to open, frames to begin with, and how a frame is read.

    `read(frame, now)` raises ValueError (msgspec's errors are such) for what cannot be understood; what is well-formed
    but new is ignored.
    """

    path: str
    read: Callable[[str | bytes, int], Sequence[Event]]
    greeting: tuple[str, ...] = ()


class Ask(NamedTuple):
    """One GET: its path with the query, and how the body of a good answer is read. `read` raises ValueError.

    What `read` is told is our wall time, which quotes and trades are stamped with; `dated`: the exchange's, which says
    what bars are over.
    """

    path: str
    read: Callable[[bytes, int], Sequence[Event]]
    dated: bool = False


class Answer(NamedTuple):
    """What came back over HTTP. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Limit(NamedTuple):
    """At most `most` in any `seconds`."""

    most: int
    seconds: float


class Exchange(NamedTuple):
    """One exchange. The socket loop and the poller in `collector` know no exchange's name: all of it is here.

    Origins are tried in turn; paths are appended to them. `poll` is used while no socket is up, with the trade number
    that is due per instrument; `missed` asks for trades again by their numbers. `history` asks for the closed bars of
    an instrument and a timeframe with openings in [since, until]; None: it does not have such.
    """

    name: str
    rests: tuple[str, ...]
    ping: str
    complaint: Callable[[bytes], str]  # the body of a bad answer → what it says, "" when it cannot be read
    wait: Callable[[Answer, int], float]  # an answer, the exchange's clock → seconds before the next call
    sockets: tuple[str, ...] = ()
    stream: Callable[[Instruments], Stream] | None = None
    listing: Callable[[Instrument], Ask] | None = None
    listing_weight: int = 0
    lookup: Callable[[str], Ask] | None = None  # which pair a symbol of the exchange's stands for: a Presence says it
    poll: Callable[[Instruments, Mapping[Instrument, int]], tuple[Ask, ...]] | None = None
    poll_seconds: float = 1.0
    missed: Callable[[Instrument, range], Ask] | None = None
    history: Callable[[Instrument, str, int, int], Ask | None] | None = None
    history_bars: int = 1000  # in one answer
    history_days: Mapping[str, int] = MappingProxyType({})  # how far back a timeframe goes, where that is little
    history_weight: int = 1  # of one call
    history_budget: int = 60  # weight a minute that history may use, of all processes together
    history_seconds: float = 10.0  # after a bar's close its history is looked at; much longer where calls are dear
    credentials: Callable[[], Mapping[str, str]] = dict  # headers; behind a function, so that no repr shows a key
    lifetime: float = 23.5 * 3600  # seconds after which a connection is renewed
    quiet: float = 5.0  # seconds without any message after which a connection may be dead
    connects: Limit = Limit(300, 300)
    sends: Limit = Limit(5, 1)
    holds: float | None = None  # seconds that a value holds after the exchange's own time for it
    simulated: bool = False

    def timeframes(self, instrument: Instrument) -> frozenset[str]:
        """Those of which it gives candles of an instrument."""
        return _timeframes(self.history, instrument) if self.history else frozenset()

    def at(self, root: str) -> "Exchange":
        """This exchange as the simulator at `root` (`http://host:port/simulator`) plays it; no key goes there."""
        origin = f"{root.rstrip('/')}/{self.name}"
        sockets = (origin.replace("http", "ws", 1),) if self.sockets else ()
        return self._replace(rests=(origin,), sockets=sockets, credentials=dict, simulated=True)


@lru_cache(10_000)  # several services ask it of every pair
def _timeframes(ask: Callable[[Instrument, str, int, int], Ask | None], instrument: Instrument) -> frozenset[str]:
    return frozenset(name for name in TIMEFRAMES if ask(instrument, name, 0, 0))


def given(value: Decimal | None) -> Decimal | None:
    """A price as such: dead pairs have zeros for it."""
    return value or None


def rows(kind: type[T], body: bytes, subject: str) -> list[T | Rejected]:
    """A JSON array of that kind; a row that is not of it costs only itself. Raises ValueError for any other body."""
    try:
        return list(_decoder(list[kind]).decode(body))  # type: ignore[valid-type]
    except ValueError:
        return [row(kind, each, subject) for each in _decoder(list[msgspec.Raw]).decode(body)]


def row(kind: type[T], raw: bytes | msgspec.Raw, subject: str) -> T | Rejected:
    """One row of an answer, or one subscription's news."""
    try:
        found: T = _decoder(kind).decode(raw)  # type: ignore[arg-type]  # a type is hashable
    except ValueError as error:
        return Rejected(subject, "shape", str(error))
    return found


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def sifted(events: Sequence[Event], latest: int) -> Sequence[Event]:
    """The events, with a Rejected in place of each whose values are out of range. `latest`: by the exchange's clock."""
    wrong = dict[int, Rejected]()
    for place, event in enumerate(events):
        fault: Fault | None = None
        if isinstance(event, Trade):
            fault, subject = trade_fault(event, latest), event.instrument
        elif isinstance(event, Heard):
            fault, subject = tick_fault(event.tick, latest), event.tick.instrument
        elif isinstance(event, Kline):
            fault, subject = kline_fault(event, latest), event.series.instrument
        if fault:
            wrong[place] = Rejected(str(subject), *fault)
    return [wrong.get(place, event) for place, event in enumerate(events)] if wrong else events


def retry_after(answer: Answer, now: int, default: float = 60) -> float:
    """Seconds to wait after an answer: what `Retry-After` or the text of a ban says, whichever is longer; without
    either `default` when we asked too often. `now`: by the exchange's clock.
    """
    waits = [min(seconds, LONGEST_WAIT) for seconds in (_header(answer), _ban(answer, now)) if seconds is not None]
    return max(waits, default=default if answer.status in (418, 429) else 0)


def _header(answer: Answer) -> float | None:
    try:
        seconds = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, seconds) if isfinite(seconds) else None


def _ban(answer: Answer, now: int) -> float | None:
    """`Way too much request weight used; IP banned until 1700000000000. …`: sometimes nothing else tells the end."""
    found = BANNED.search(answer.body[:BODY_READ]) if answer.status in (403, 418, 429) else None
    return (int(found[1]) - now) / 1000 if found and int(found[1]) > now else None
