"""The messages of the bus and the values in them.

Every message is a frozen struct. Prices are `Decimal` with the exchange's own digits, times are integers: milliseconds
since the epoch, UTC. Where a field has a `name`, that is what it is called in queues, in Redis and in tables.
"""

from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct, field


class Instrument(NamedTuple):
    """One unit of `base` in units of `quote`. `contract` names a derivative of the pair."""

    base: str
    quote: str
    contract: str = ""

    def __str__(self) -> str:
        return _join_parts(self)

    @classmethod
    def parse(cls, text: str) -> "Instrument":
        """Parse `BTC-USDT` or `BTC-USD-PERPETUAL`. Raises ValueError with what is wrong."""
        parts = text.strip().upper().split("-")
        if not 2 <= len(parts) <= 3 or not all(part.isalnum() for part in parts):
            raise ValueError(f"{text!r} is not a pair: write BASE-QUOTE, for example BTC-USD")
        return cls(*parts)


@lru_cache(10_000)  # every message needs it
def _join_parts(parts: tuple[str, ...]) -> str:
    return "-".join(filter(None, parts))


class Quote(Struct, frozen=True, tag="tick", omit_defaults=True):
    """Bid and ask of an instrument, or an index price, at one time."""

    exchange: str
    instrument: Instrument
    received: int  # our clock
    time: int | None = None  # the exchange's clock, where it sends one
    bid: Decimal | None = None
    ask: Decimal | None = None
    price: Decimal | None = None

    @property
    def mid(self) -> Decimal | None:
        """The middle of bid and ask, or the price where one of them is missing."""
        return (self.bid + self.ask) / 2 if self.bid and self.ask else self.price


class Trade(Struct, frozen=True, tag="trade", omit_defaults=True):
    """An aggregate trade: one taker order at one price. `trade_id` rises by one per instrument."""

    exchange: str
    instrument: Instrument
    received: int  # our clock
    time: int  # the exchange's clock
    price: Decimal
    size: Decimal  # of the base
    trade_id: int = field(name="number")
    fills: int = 1  # how many executions it aggregates
    buyer_is_maker: bool | None = field(default=None, name="buyer_made")  # true: the taker sold


class Position(NamedTuple):
    """The number of a message in its topic, and that of the message before it; 0: that is unknown.

    A topic has one writer and one order, the same for all its readers. `seq` is the microsecond of its assignment, but
    always more than `prev_seq`: where the writer's clock was set back, it does not give the time.
    """

    seq: int
    prev_seq: int


class Bar(Struct, frozen=True, gc=False):
    """Open, high, low, close and volumes within one timeframe, without a series."""

    open_time: int = field(name="timestamp")
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal  # of the base
    quote_volume: Decimal
    trades: int  # fills; 0 where the exchange does not count them


class Series(NamedTuple):
    """All candles of one exchange, instrument and timeframe."""

    exchange: str
    instrument: Instrument
    timeframe: str


class CandleSource(StrEnum):
    """What a candle was built from, in ascending order of trust."""

    TRADES = "ticks"  # built from trades as they came
    ROLLUP = "rollup"  # from shorter candles
    IMPORT = "import"  # from the exchange's public files
    EXCHANGE = "exchange"  # the exchange's own closed candle


class Kline(Struct, frozen=True, tag="kline", omit_defaults=True):
    """A closed candle as the exchange sent it, or as its public files have it."""

    series: Series
    bar: Bar
    source: CandleSource = CandleSource.EXCHANGE


class Candle(Struct, frozen=True, tag="candle", omit_defaults=True, gc=False):
    """A candle as it is stored. `revision` counts how often a closed one was changed."""

    series: Series
    bar: Bar
    closed: bool
    source: CandleSource
    revision: int = 0
    position: Position | None = field(default=None, name="place")
    published: int = 0  # when its position was assigned

    @property
    def kind(self) -> str:
        """ "traded", or "empty" without a trade. Some exchanges count no trades, and some send no volume either."""
        bar = self.bar
        return "traded" if bar.trades or bar.volume or bar.high != bar.low else "empty"


class IndicatorValue(Struct, frozen=True, tag="reading", omit_defaults=True):
    """An indicator's values at one candle. `indicator` is its name with all parameters: `sma:20`, `macd:12:26:9`."""

    series: Series
    indicator: str
    open_time: int = field(name="timestamp")
    values: dict[str, float | None]  # by output
    closed: bool  # whether the candle is
    position: Position | None = field(default=None, name="place")
    published: int = 0  # when its position was assigned


class IndicatorRequest(Struct, frozen=True, tag="wish"):
    """A replica's wish that the analyst publishes an indicator of a series until then."""

    series: Series
    indicator: str
    until: int


class HistoryRequest(Struct, frozen=True, tag="history_request"):
    """A replica's wish that candles with open times in [since, until] are fetched first, for that many seconds."""

    series: Series
    since: int
    until: int
    seconds: int


class CandleGapState(StrEnum):
    """Whether a gap is still to be repaired."""

    OPEN = "open"  # to be repaired
    REPAIRED = "repaired"
    ABSENT = "absent"  # the exchange itself has no candles there


class CandleGap(Struct, frozen=True, tag="hole", omit_defaults=True):
    """Closed candles of a series that were missing: all open times in [since, until]."""

    series: Series
    since: int
    until: int
    detected: int = field(name="noticed")
    state: CandleGapState = CandleGapState.OPEN
    resolved: int | None = field(default=None, name="settled")  # when it was repaired or found absent
    repaired_from: CandleSource | None = field(default=None, name="origin")


class StoreLookup(StrEnum):
    """What a process without a database can look up in the store, by a StoreQuery."""

    CANDLES = "candles"
    MISSING = "missing"
    UNVERIFIED = "unverified"
    OPEN_GAPS = "open_holes"
    ABSENT_GAPS = "absent_holes"


class StoreQuery(Struct, frozen=True, tag="store_query"):
    """A collector's look-up of open times in [since, until] of a series. The writer replies with the same id."""

    id: str
    lookup: StoreLookup
    series: Series
    since: int
    until: int
    limit: int  # candles, gaps or ranges


class StoreReply(Struct, frozen=True, tag="store_reply", omit_defaults=True):
    """The rows of one query, or the error that it ended with."""

    id: str
    candles: tuple[Candle, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    gaps: tuple[CandleGap, ...] = field(default=(), name="holes")
    error: str = ""


class FeedGap(Struct, frozen=True, tag="gap", omit_defaults=True):
    """A time in which messages were, or may have been, lost, of `instrument` or (None) of the whole exchange."""

    exchange: str
    since: int
    until: int
    reason: str
    instrument: Instrument | None = None


class FeedStatus(StrEnum):
    """How the quotes of one instrument arrive."""

    WAITING = "waiting"  # there was none yet
    LIVE = "live"
    SILENT = "silent"  # quiet for longer than its own rhythm allows
    ABSENT = "absent"  # the exchange does not trade it


class InstrumentFeed(Struct, frozen=True):
    """How the quotes of one instrument at one exchange arrive, by its collector."""

    instrument: Instrument
    status: FeedStatus = field(name="feed")
    received: int | None = None  # when the last one came
    confirmed: int | None = None  # when it was last known to hold: on a live feed no message means no change


class SeriesProgress(Struct, frozen=True):
    """A series whose past candles are not complete yet."""

    instrument: Instrument
    timeframe: str
    since: int  # the first open time that is expected, without what the exchange does not have
    expected: int  # closed candles; 0: not counted yet
    missing: int
    reason: str = ""  # why its next request waits


class BackfillProgress(Struct, frozen=True, omit_defaults=True):
    """How many of the configured past candles are missing, over all series of an exchange."""

    expected: int
    missing: int
    incomplete: tuple[SeriesProgress, ...] = field(default=(), name="loading")  # the first of many
    unlisted: int = 0  # how many more are incomplete
    reason: str = ""  # why there are no requests now


class ExchangeStatus(Struct, frozen=True, tag="state"):
    """How an exchange is connected, by its collector; published each second and at each change."""

    exchange: str
    time: int
    connected: bool
    transport: str  # "socket", "polling" or "none"
    host: str
    reason: str  # why it is not connected, or not by a socket
    since: int  # of `connected`
    received: int | None  # the last message of any kind
    reconnects: int
    simulated: bool
    feeds: tuple[InstrumentFeed, ...] = field(default=(), name="sources")
    backfill: BackfillProgress | None = field(default=None, name="history")  # None: unknown, or it has no candles
    position: Position | None = field(default=None, name="place")
    clock_offset: int | None = None  # ms by which the exchange's clock is ahead of the clock of `time`


class Leg(Struct, frozen=True):
    """One quote that a rate is multiplied from, as of the time of the rate."""

    exchange: str
    instrument: Instrument
    value: Decimal
    received: int
    confirmed: int
    expires: int  # when it is too old
    own: bool  # the exchange's own, not the reference's
    inverted: bool = False  # the rate divides by it
    bid: Decimal | None = None
    ask: Decimal | None = None
    time: int | None = None


class RejectReason(StrEnum):
    """Why a candidate is not used."""

    MISSING = "missing"  # a leg has no value
    STALE = "stale"  # a leg is too old
    OUTLIER = "outlier"  # too far from the median of the others
    RECOVERING = "recovering"  # good again, but not yet for long enough


class RateCandidate(Struct, frozen=True):
    """One exchange's rate for one direction."""

    exchange: str
    legs: tuple[Leg, ...]
    value: Decimal | None = None  # None: a leg is missing
    bid: Decimal | None = None
    ask: Decimal | None = None
    deviation: Decimal | None = None  # from the median of the others, in basis points
    rejected: RejectReason | None = field(default=None, name="aside")
    reason: str = ""  # why it is rejected
    clock_fault: str = field(default="", name="clock")  # which clocks are wrong, so that newer values have no known age

    @property
    def expires(self) -> int:
        """When the first leg is too old."""
        return min((leg.expires for leg in self.legs), default=0)


class Rate(Struct, frozen=True, tag="rate"):
    """The candidates for one direction, in the configured order of their exchanges."""

    direction: Instrument
    time: int
    candidates: tuple[RateCandidate, ...] = field(name="offers")
    simulated: bool = False
    position: Position | None = field(default=None, name="place")


class HighPriorityTask(Struct, frozen=True, tag="high"):
    """The id of a task that waits for a worker of `tasks.high`. Everything about it is in the table of tasks.

    RabbitMQ's routing key is a message's kind and partition, here `high.priority`.
    """

    id: str


class NormalPriorityTask(Struct, frozen=True, tag="normal"):
    """The id of a task that waits for a worker of `tasks.normal`."""

    id: str


class TaskChange(Struct, frozen=True, tag="task_change"):
    """News of a person's task: replicas that serve the person read its row again."""

    id: str
    person: str
    revision: int


class ExchangeSwitch(Struct, frozen=True):
    """A change of the active exchange."""

    time: int
    previous: str | None
    exchange: str | None
    reason: str


class ActiveExchange(Struct, frozen=True, tag="choice"):
    """The exchange whose candidates are served for all directions, since when and why."""

    time: int
    exchange: str | None
    since: int
    reason: str
    failovers: int = 0
    switches: tuple[ExchangeSwitch, ...] = field(name="recent", default=())
    position: Position | None = field(default=None, name="place")


Sequenced = Candle | IndicatorValue | ExchangeStatus | Rate | ActiveExchange
"""The messages that have a topic. Without a position they update the newest values, but are not sent to clients."""
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
    | HighPriorityTask
    | NormalPriorityTask
    | TaskChange
    | Sequenced
)


def partition_key(message: Message) -> str:  # noqa: PLR0911  one line for each kind
    """Return the key of a message's partition. Messages of one partition stay in order."""
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
        case HighPriorityTask() | NormalPriorityTask():
            return "priority"
        case TaskChange():
            return message.person
