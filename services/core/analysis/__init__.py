"""The structs of an analysis. They need no numpy, so that the store and the API can import them alone.

The other modules of this package compute it; `docs/analysis.md` has every rule.
"""

from enum import StrEnum

from msgspec import Struct, field

from services.core.model import Series

DISCLAIMER = (
    "This describes how the market has moved, by fixed rules on closed candles. It predicts nothing and is no advice "
    "to buy or to sell."
)


class TrendDirection(StrEnum):
    """The direction in which the price has moved."""

    UP = "up"
    DOWN = "down"
    SIDEWAYS = "sideways"
    UNKNOWN = "unknown"  # too few candles


class Side(StrEnum):
    """The side of a signal."""

    BUY = "buy"
    SELL = "sell"


class Vote(Struct, frozen=True):
    """The vote of one rule on the trend: `value` is from -1 (down) to 1 (up)."""

    rule: str
    value: float
    weight: int
    inputs: dict[str, float]
    reason: str


class Trend(Struct, frozen=True):
    """All votes combined. `strength` is from 0 to 100; below `trend.MIN_TREND_STRENGTH` the direction is sideways."""

    direction: TrendDirection
    strength: int
    votes: tuple[Vote, ...]


class Signal(Struct, frozen=True):
    """A match of a rule at one closed candle."""

    rule: str
    side: Side
    timestamp: int  # open time of the candle
    price: float  # close of the candle
    inputs: dict[str, float]
    reason: str


class SupportResistanceLevel(Struct, frozen=True):
    """A price at which the market turned: the mean of several turning points. `strength` is from 0 to 100."""

    price: float
    touches: int
    strength: int
    first: int  # open time of the first candle that touched it
    last: int


class NamedPrice(Struct, frozen=True):
    """A price with a name, such as `61.8` or `r1`."""

    name: str
    price: float


class Volatility(Struct, frozen=True):
    """How far the price moves within one candle."""

    atr: float
    percent: float  # of the close
    rank: int  # percent of the last candles at which `percent` was smaller
    state: str  # "low", "normal" or "high"


class Analysis(Struct, frozen=True):
    """Trend, signals and levels as of one closed candle. Without candles `open_time` and `close` are None."""

    series: Series
    open_time: int | None = field(name="timestamp")
    close: float | None
    candles: int  # that the rules look at
    trend: Trend
    signals: tuple[Signal, ...] = ()  # of the last candles, the newest first
    support_levels: tuple[SupportResistanceLevel, ...] = ()  # the nearest first
    resistance_levels: tuple[SupportResistanceLevel, ...] = ()
    fibonacci_levels: tuple[NamedPrice, ...] = ()
    pivot_levels: tuple[NamedPrice, ...] = ()
    volatility: Volatility | None = None
    notes: tuple[str, ...] = ()  # reasons to be careful: gaps, spikes, too few candles
