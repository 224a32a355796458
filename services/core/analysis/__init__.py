"""What an analysis says, in words that need no arithmetic: who only keeps or reads one imports nothing else.

How it comes about is in the modules beside this one; `docs/analysis.md` has every rule.
"""

from enum import StrEnum

from msgspec import Struct, field

from services.core.model import Series

DISCLAIMER = (
    "This describes how the market has moved, by fixed rules on closed candles. It predicts nothing and is no advice "
    "to buy or to sell."
)


class TrendDirection(StrEnum):
    """Where the price has been going."""

    UP = "up"
    DOWN = "down"
    SIDEWAYS = "sideways"
    UNKNOWN = "unknown"  # there are too few candles to tell


class Side(StrEnum):
    """What a signal speaks for."""

    BUY = "buy"
    SELL = "sell"


class Vote(Struct, frozen=True):
    """What one rule says of the trend: from -1, down, to 1, up."""

    rule: str
    value: float
    weight: int
    inputs: dict[str, float]
    reason: str


class Trend(Struct, frozen=True):
    """All votes together. `strength` is from 0 to 100; a trend below `analysis.trend.SIDEWAYS` has no direction."""

    direction: TrendDirection
    strength: int
    votes: tuple[Vote, ...]


class Signal(Struct, frozen=True):
    """What a rule saw at one closed candle."""

    rule: str
    side: Side
    timestamp: int  # the candle's opening
    price: float  # its close
    inputs: dict[str, float]
    reason: str


class SupportResistanceLevel(Struct, frozen=True):
    """A price at which the market turned: the mean of its turns that lie together. `strength` is from 0 to 100."""

    price: float
    touches: int
    strength: int
    first: int  # openings of the candles that touched it first and last
    last: int


class NamedPrice(Struct, frozen=True):
    """A price with a name, such as `61.8` or `r1`."""

    name: str
    price: float


class Volatility(Struct, frozen=True):
    """How far the price goes within one candle."""

    atr: float
    percent: float  # of the close
    rank: int  # per cent of the last candles that moved less
    state: str  # "low", "normal" or "high"


class Analysis(Struct, frozen=True):
    """What closed candles up to one of them say. `timestamp` is its opening; with no candle at all it is None."""

    series: Series
    open_time: int | None = field(name="timestamp")
    close: float | None
    candles: int  # that were looked at
    trend: Trend
    signals: tuple[Signal, ...] = ()  # of the last candles, the newest first
    support_levels: tuple[SupportResistanceLevel, ...] = ()  # the nearest first
    resistance_levels: tuple[SupportResistanceLevel, ...] = ()
    fibonacci_levels: tuple[NamedPrice, ...] = ()
    pivot_levels: tuple[NamedPrice, ...] = ()
    volatility: Volatility | None = None
    notes: tuple[str, ...] = ()  # what makes one careful: gaps, spikes, too little history
