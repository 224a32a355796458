"""What Kurs speaks of: the vocabulary of the bus, of the log and of the tests.

Every message is a frozen struct. Prices are `Decimal` with the exchange's own digits, times are integers:
milliseconds since the epoch, UTC.
"""

from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct, field


class Instrument(NamedTuple):
    """What is priced: one unit of `base` in units of `quote`. `contract` names a derivative of the pair."""

    base: str
    quote: str
    contract: str = ""

    def __str__(self) -> str:
        return _join_parts(self)

    @classmethod
    def parse(cls, text: str) -> "Instrument":
        """Read `BTC-USDT` or `BTC-USD-PERPETUAL`. Raises ValueError with what is wrong."""
        parts = text.strip().upper().split("-")
        if not 2 <= len(parts) <= 3 or not all(part.isalnum() for part in parts):
            raise ValueError(f"{text!r} is not a pair: write BASE-QUOTE, for example BTC-USD")
        return cls(*parts)


@lru_cache(10_000)  # it is asked for at every message
def _join_parts(words: tuple[str, ...]) -> str:
    return "-".join(filter(None, words))


class Quote(Struct, frozen=True, tag="tick", omit_defaults=True):
    """What an exchange says a price is now: a quote (bid and ask) or an index price."""

    exchange: str
    instrument: Instrument
    received: int  # our clock
    time: int | None = None  # the exchange's clock, where it tells
    bid: Decimal | None = None
    ask: Decimal | None = None
    price: Decimal | None = None

    @property
    def mid(self) -> Decimal | None:
        """Middle of bid and ask; where one is missing, the price."""
        return (self.bid + self.ask) / 2 if self.bid and self.ask else self.price


class Trade(Struct, frozen=True, tag="trade", omit_defaults=True):
    """What was traded. `number` is its place, consecutive per instrument; one entry may hold several fills."""

    exchange: str
    instrument: Instrument
    received: int  # our clock
    time: int  # the exchange's clock
    price: Decimal
    size: Decimal  # of the base
    trade_id: int = field(name="number")
    fills: int = 1
    buyer_is_maker: bool | None = field(default=None, name="buyer_made")  # the maker was the buyer: the taker sold


class Position(NamedTuple):
    """Where a message stands in its log: `number` grows, `previous` is its predecessor's. 0: whose that was is unknown.

    A log has one writer and one order, the same for all who read it. A number is the microsecond it was given in, but
    always more than its predecessor's: where the writer's clock was set back, numbers say nothing of the time.
    """

    seq: int
    prev_seq: int


class Bar(Struct, frozen=True, gc=False):
    """What happened to a price within one timeframe. `timestamp` is its opening time."""

    open_time: int = field(name="timestamp")
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal  # of the base
    quote_volume: Decimal
    trades: int  # fills; 0 where the exchange does not count them


class Series(NamedTuple):
    """Bars of one instrument at one exchange in one timeframe."""

    exchange: str
    instrument: Instrument
    timeframe: str


class CandleSource(StrEnum):
    """Where a candle comes from, from the weakest word to the strongest."""

    TRADES = "ticks"  # built from trades as they came
    ROLLUP = "rollup"  # from shorter candles
    IMPORT = "import"  # from the exchange's public files
    EXCHANGE = "exchange"  # the exchange's own closed candle


class Kline(Struct, frozen=True, tag="kline", omit_defaults=True):
    """A closed candle as the exchange gave it, or as its public files have it."""

    series: Series
    bar: Bar
    source: CandleSource = CandleSource.EXCHANGE


class Candle(Struct, frozen=True, tag="candle", omit_defaults=True, gc=False):
    """A candle as Kurs keeps it. `revision` counts how often a closed one was changed."""

    series: Series
    bar: Bar
    closed: bool
    source: CandleSource
    revision: int = 0
    position: Position | None = field(default=None, name="place")
    published: int = 0  # when it was given its place

    @property
    def kind(self) -> str:
        """ "traded", or "empty" when nothing was traded. Some exchanges count no trades, some tell no volume either."""
        bar = self.bar
        return "traded" if bar.trades or bar.volume or bar.high != bar.low else "empty"


class IndicatorValue(Struct, frozen=True, tag="reading", omit_defaults=True):
    """What an indicator says at one candle. `indicator` is its name with all parameters: `sma:20`, `macd:12:26:9`."""

    series: Series
    indicator: str
    open_time: int = field(name="timestamp")  # the candle's opening
    values: dict[str, float | None]  # by the indicator's outputs
    closed: bool  # whether the candle is
    position: Position | None = field(default=None, name="place")
    published: int = 0  # when it was given its place


class IndicatorRequest(Struct, frozen=True, tag="wish"):
    """Somebody watches an indicator of a series: whoever computes them tells of it until then."""

    series: Series
    indicator: str
    until: int


class HistoryRequest(Struct, frozen=True, tag="history_request"):
    """Somebody waits for candles with openings in [since, until]: for so many seconds they are fetched first."""

    series: Series
    since: int
    until: int
    seconds: int


class CandleGapState(StrEnum):
    """What became of a hole."""

    OPEN = "open"  # to be repaired
    REPAIRED = "repaired"
    ABSENT = "absent"  # the exchange itself has nothing there


class CandleGap(Struct, frozen=True, tag="hole", omit_defaults=True):
    """Closed candles of a series were missing: all openings in [since, until]."""

    series: Series
    since: int
    until: int
    detected: int = field(name="noticed")
    state: CandleGapState = CandleGapState.OPEN
    resolved: int | None = field(default=None, name="settled")  # when it was repaired, or known to be absent
    repaired_from: CandleSource | None = field(default=None, name="origin")  # where the repair came from


class StoreLookup(StrEnum):
    """What can be looked up in the store by a process that has none."""

    CANDLES = "candles"
    MISSING = "missing"
    UNVERIFIED = "unverified"
    OPEN_GAPS = "open_holes"
    ABSENT_GAPS = "absent_holes"


class StoreQuery(Struct, frozen=True, tag="store_query"):
    """A collector looks up openings in [since, until] of a series. The writer answers with a reply of the same id."""

    id: str
    lookup: StoreLookup
    series: Series
    since: int
    until: int
    limit: int  # candles, holes or ranges


class StoreReply(Struct, frozen=True, tag="store_reply", omit_defaults=True):
    """The rows of one query, or the error that it ended with."""

    id: str
    candles: tuple[Candle, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    gaps: tuple[CandleGap, ...] = field(default=(), name="holes")
    error: str = ""


class FeedGap(Struct, frozen=True, tag="gap", omit_defaults=True):
    """Messages were, or may have been, lost: everything of `instrument` (None: of the exchange) in [since, until]."""

    exchange: str
    since: int
    until: int
    reason: str
    instrument: Instrument | None = None


class FeedStatus(StrEnum):
    """How one instrument's data flows."""

    WAITING = "waiting"  # nothing has come yet
    LIVE = "live"
    SILENT = "silent"  # quiet for longer than its own rhythm allows
    ABSENT = "absent"  # the exchange does not trade it


class InstrumentFeed(Struct, frozen=True):
    """One instrument at one exchange, as its collector sees it."""

    instrument: Instrument
    status: FeedStatus = field(name="feed")
    received: int | None = None  # when the last value came
    confirmed: int | None = None  # when that value was last known to hold: nothing new on a live feed is no change


class SeriesProgress(Struct, frozen=True):
    """A series whose history is not complete yet."""

    instrument: Instrument
    timeframe: str
    since: int  # the first opening that is expected: what the exchange does not have is left out
    expected: int  # closed candles; 0: nobody has looked yet
    missing: int
    reason: str = ""  # why its next request waits, for a person to read


class BackfillProgress(Struct, frozen=True, omit_defaults=True):
    """How much of the history that is configured is kept, in closed candles of all series of an exchange."""

    expected: int
    missing: int
    incomplete: tuple[SeriesProgress, ...] = field(
        default=(), name="loading"
    )  # the series that are not complete, the first of them where they are many
    unlisted: int = 0  # how many more there are
    reason: str = ""  # why the exchange is not asked now


class ExchangeStatus(Struct, frozen=True, tag="state"):
    """What a collector knows of its exchange; sent each second and at each change."""

    exchange: str
    time: int
    connected: bool
    transport: str  # "socket", "polling" or "none"
    host: str
    reason: str  # why it is so, for a person to read
    since: int  # of `connected`
    received: int | None  # the last message of any kind
    reconnects: int
    simulated: bool
    feeds: tuple[InstrumentFeed, ...] = field(default=(), name="sources")
    backfill: BackfillProgress | None = field(default=None, name="history")  # None: nobody looked yet, or it has none
    position: Position | None = field(default=None, name="place")
    clock_offset: int | None = None  # ms by which the exchange's clock is ahead of the one of `time`; None: unknown


class Leg(Struct, frozen=True):
    """One factor of a rate: a value that an exchange gave, as it stood."""

    exchange: str
    instrument: Instrument
    value: Decimal
    received: int
    confirmed: int
    expires: int  # when it will be too old to use
    own: bool  # the exchange's own, not the reference's
    inverted: bool = False  # the rate divides by it
    bid: Decimal | None = None
    ask: Decimal | None = None
    time: int | None = None


class RejectReason(StrEnum):
    """Why an offer is set aside."""

    MISSING = "missing"  # a leg has no value
    STALE = "stale"  # a leg is too old
    OUTLIER = "outlier"  # too far from the median of the rest
    RECOVERING = "recovering"  # good again, not yet for long enough


class RateCandidate(Struct, frozen=True):
    """What one exchange gives for one direction."""

    exchange: str
    legs: tuple[Leg, ...]
    value: Decimal | None = None  # None: a leg is missing
    bid: Decimal | None = None
    ask: Decimal | None = None
    deviation: Decimal | None = None  # from the median of the others, in basis points
    rejected: RejectReason | None = field(default=None, name="aside")
    reason: str = ""  # why it is set aside, for a person to read
    clock_fault: str = field(
        default="", name="clock"
    )  # which clocks are wrong, so that nobody knows how old newer values of its legs are

    @property
    def expires(self) -> int:
        """When the first leg will be too old."""
        return min((leg.expires for leg in self.legs), default=0)


class Rate(Struct, frozen=True, tag="rate"):
    """One direction with what every exchange says of it, in the configured order."""

    direction: Instrument
    time: int
    candidates: tuple[RateCandidate, ...] = field(name="offers")
    simulated: bool = False
    position: Position | None = field(default=None, name="place")


class ExchangeSwitch(Struct, frozen=True):
    """The exchange in use changed."""

    time: int
    previous: str | None
    exchange: str | None
    reason: str


class ActiveExchange(Struct, frozen=True, tag="choice"):
    """Which exchange answers for all directions, since when and why."""

    time: int
    exchange: str | None
    since: int
    reason: str
    failovers: int = 0
    switches: tuple[ExchangeSwitch, ...] = field(name="recent", default=())
    position: Position | None = field(default=None, name="place")


Sequenced = Candle | IndicatorValue | ExchangeStatus | Rate | ActiveExchange
"""What has a log. Without a place a message is news to those who keep the newest, but not to those who follow."""
Message = (
    Quote
    | Trade
    | Kline
    | IndicatorRequest
    | HistoryRequest
    | StoreQuery
    | StoreReply
    | CandleGap
    | FeedGap
    | Sequenced
)


def partition_key(message: Message) -> str:
    """The partition of a message: all of one partition stay in order."""
    match message:
        case Quote() | Trade():
            return str(message.instrument)
        case Rate():
            return str(message.direction)
        case Kline() | Candle() | IndicatorValue() | IndicatorRequest() | HistoryRequest() | StoreQuery() | CandleGap():
            return str(message.series.instrument)
        case FeedGap() | ExchangeStatus():
            return message.exchange
        case StoreReply():
            return message.id
        case ActiveExchange():
            return "choice"
