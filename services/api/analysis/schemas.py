"""Queries and responses of the analysis' endpoints, for OpenAPI. Times are ms since the epoch."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from pydantic import BaseModel, Field

from services.api.candles.candle_query import ExchangeName, SymbolName, TimeframeName
from services.api.candles.schemas import Loading
from services.api.schemas import example
from services.core.analysis import DISCLAIMER

TrendDirection = Literal["up", "down", "sideways", "unknown"]
SIGNAL_EXAMPLE = {
    "rule": "macd_cross",
    "side": "buy",
    "timestamp": 1795165200000,
    "price": 97580.2,
    "inputs": {"macd": 41.2, "signal": 39.9},
    "reason": "macd crossed signal upwards",
}
LEVEL_EXAMPLE = {"price": 97120.5, "touches": 3, "strength": 82, "first": 1794902400000, "last": 1795111200000}
VOLATILITY_EXAMPLE = {"atr": 214.1, "percent": 0.2193, "rank": 41, "state": "normal"}


class AnalysisQuery(Struct, kw_only=True, frozen=True):
    """The query of `/api/analysis`."""

    symbol: SymbolName
    timeframe: TimeframeName
    exchange: ExchangeName = ""


class MultiQuery(Struct, kw_only=True, frozen=True):
    """The query of `/api/analysis/{symbol}/multi`, and the symbol in its path."""

    symbol: SymbolName
    timeframes: Annotated[
        tuple[TimeframeName, ...], Meta(description="A comma list; without it 15m, 1h, 4h, 1d", examples=["1h,1d"])
    ] = ()
    exchange: ExchangeName = ""


class Vote(BaseModel):
    """The vote of one rule on the trend."""

    rule: str
    value: float = Field(description="From -1 (down) to 1 (up)")
    weight: int
    inputs: dict[str, float]
    reason: str


class Trend(BaseModel):
    """The weighted mean of the votes."""

    direction: TrendDirection
    strength: int = Field(description="0 to 100; below 25 the market goes sideways")
    votes: list[Vote]


class Signal(BaseModel):
    """A match of a rule at one closed candle."""

    rule: str
    side: Literal["buy", "sell"]
    timestamp: int = Field(description="Open time of the candle")
    price: float = Field(description="Close of the candle")
    inputs: dict[str, float]
    reason: str


class PriceLevel(BaseModel):
    """A price at which the market turned."""

    price: float
    touches: int
    strength: int = Field(description="0 to 100, higher for more and for more recent touches")
    first: int = Field(description="Open time of the first candle that touched it")
    last: int


class Line(BaseModel):
    """A price with a name."""

    name: str = Field(description="`61.8`, `r1` …")
    price: float


class Volatility(BaseModel):
    """How far the price moves within one candle."""

    atr: float = Field(description="Mean true range")
    percent: float = Field(description="The same in percent of the close")
    rank: int = Field(description="Percentage of the last 100 candles at which it was smaller")
    state: Literal["low", "normal", "high"]


class Analysis(BaseModel):
    """The analysis of the closed candles of a series, without the forming one. docs/analysis.md has the rules."""

    model_config = example(
        symbol="BTC-USDT",
        exchange="binance",
        timeframe="1h",
        timestamp=1795172400000,
        close=97614.93,
        candles=200,
        trend={
            "direction": "up",
            "strength": 62,
            "votes": [
                {
                    "rule": "slope",
                    "value": 0.58,
                    "weight": 25,
                    "inputs": {"atr": 214.1, "sma20": 97420.4, "sma20_before": 96800.1},
                    "reason": "the 20-candle average has risen by 2.9 mean true ranges in 20 candles",
                }
            ],
        },
        signals=[SIGNAL_EXAMPLE],
        support_levels=[LEVEL_EXAMPLE],
        resistance_levels=[],
        fibonacci_levels=[{"name": "61.8", "price": 96120.4}],
        pivot_levels=[{"name": "p", "price": 97310.1}],
        volatility=VOLATILITY_EXAMPLE,
        notes=["2 candles are missing among the last 200"],
        summary="The trend is up, strength 62 of 100: the 20-candle average has risen …",
        disclaimer=DISCLAIMER,
    )

    symbol: str
    exchange: str
    timeframe: str
    timestamp: int | None = Field(description="Open time of the newest closed candle; null if there is none")
    close: float | None
    candles: int = Field(description="Number of analysed candles; those that indicators need before them do not count")
    trend: Trend
    signals: list[Signal] = Field(description="Of the last 10 closed candles, the newest first")
    support_levels: list[PriceLevel] = Field(description="Below the close, the nearest first")
    resistance_levels: list[PriceLevel]
    fibonacci_levels: list[Line]
    pivot_levels: list[Line]
    volatility: Volatility | None
    notes: list[str] = Field(description="Reasons to be careful with the rest")
    loading: Loading | None = Field(
        None, description="Present only while history is being loaded: the analysis will change"
    )
    summary: str = Field(description="The analysis with its reasons as a text")
    disclaimer: str


class Together(BaseModel):
    """The trend of all timeframes combined."""

    direction: TrendDirection
    strength: int
    agreement: int = Field(description="Percentage of the weights with the same direction")


class TimeframeAnalysis(BaseModel):
    """The analysis of one timeframe."""

    timeframe: str
    weight: int
    timestamp: int | None
    close: float | None
    direction: TrendDirection
    strength: int
    signals: list[Signal]
    support: float | None = Field(description="The nearest level below the close")
    resistance: float | None
    volatility: Volatility | None
    notes: list[str]
    loading: Loading | None = Field(None, description="Present only while history is being loaded")


class Multi(BaseModel):
    """Several timeframes of one symbol combined. Longer ones have a larger weight."""

    model_config = example(
        symbol="BTC-USDT",
        exchange="binance",
        trend={"direction": "up", "strength": 44, "agreement": 86},
        timeframes=[
            {
                "timeframe": "1h",
                "weight": 3,
                "timestamp": 1795172400000,
                "close": 97614.93,
                "direction": "up",
                "strength": 62,
                "signals": [SIGNAL_EXAMPLE],
                "support": 97120.5,
                "resistance": None,
                "volatility": VOLATILITY_EXAMPLE,
                "notes": [],
            }
        ],
        summary="Together the timeframes go up, strength 44 of 100; 86 % of their weight agrees.",
        disclaimer=DISCLAIMER,
    )

    symbol: str
    exchange: str
    trend: Together
    timeframes: list[TimeframeAnalysis]
    summary: str
    loading: Loading | None = Field(
        None,
        description="Of all timeframes; present only while history is being loaded: the combined trend will change",
    )
    disclaimer: str
