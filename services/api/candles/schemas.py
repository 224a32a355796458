"""Queries and responses about candles. Times are ms since the epoch."""

from typing import Annotated, Literal

from msgspec import Meta
from pydantic import BaseModel, ConfigDict, Field

from services.api.candles.candle_query import CandleRangeQuery, Fill, Limit, SymbolName, TimeframeName
from services.api.schemas import example


class ChartQuery(CandleRangeQuery, kw_only=True, frozen=True):
    """The query of `/api/chart-data`."""

    symbol: SymbolName
    timeframe: TimeframeName
    limit: Limit = None
    fill: Annotated[Fill, Meta(description="What stands for candles that are missing")] = Fill.NONE
    partial: Annotated[bool, Meta(description="With what is known of candles of which a part is missing")] = False


class CoverageQuery(CandleRangeQuery, kw_only=True, frozen=True):
    """The query of `/api/candles/coverage`."""

    symbol: Annotated[SymbolName, Meta(description="BTC-USDT, BTCUSDT or BINANCE:BTCUSDT; without it all")] = ""
    timeframe: Annotated[TimeframeName, Meta(description="Without it all")] = ""


class Candle(BaseModel):
    """What was traded within one timeframe."""

    timestamp: int = Field(description="When it opened")
    open: float | None = Field(description="A JSON number with the exchange's digits; null: missing, with fill=null")
    high: float | None
    low: float | None
    close: float | None
    volume: float | None = Field(description="Of the base")
    closed: bool = Field(description="Nothing more will be traded in it")
    kind: Literal["traded", "empty", "missing", "partial"] = Field(
        description="empty: nothing was traded; missing: not stored, its values come from `fill`; "
        "partial: a part of it is missing, it is made of the rest, and present only with `partial=true`"
    )
    source: Literal["ticks", "exchange", "rollup", "import"] | None = Field(
        description="ticks: trades; exchange: its own closed candle; rollup: shorter candles; import: its files"
    )
    revision: int = Field(description="How often it was corrected after it was closed")


class Loading(BaseModel):
    """The response is not complete yet: history is being loaded. Request it again in a second or later."""

    expected: int = Field(description="Closed candles that the response should have")
    available: int = Field(description="Those of them that are stored")
    reason: str | None = Field(description="Why no more are loaded now: the exchange fails, its collector is silent")


class ChartData(BaseModel):
    """Candles, the oldest first. The header `Kurs-Exchange` names their exchange."""

    model_config = example(
        symbol="BTC-USDT",
        timeframe="1m",
        candles=[
            {
                "timestamp": 1795176000000,
                "open": 97614.93,
                "high": 97620,
                "low": 97601.5,
                "close": 97602.01,
                "volume": 12.40215,
                "closed": True,
                "kind": "traded",
                "source": "exchange",
                "revision": 0,
            }
        ],
    )

    symbol: str
    timeframe: str
    candles: list[Candle]
    loading: Loading | None = Field(None, description="Only there while history is being loaded")


class Symbol(BaseModel):
    """An instrument at an exchange."""

    symbol: str
    exchange: str
    base: str
    quote: str
    contract: str | None
    timeframes: list[str] = Field(description="That are stored, or that the exchange has")


class Symbols(BaseModel):
    """Everything that has candles, the preferred exchange first."""

    model_config = example(
        symbols=[
            {
                "symbol": "BTC-USDT",
                "exchange": "binance",
                "base": "BTC",
                "quote": "USDT",
                "contract": None,
                "timeframes": ["1m", "1h", "1d"],
            }
        ]
    )

    symbols: list[Symbol]


class Timeframe(BaseModel):
    """One timeframe."""

    timeframe: str
    milliseconds: int | None = Field(description="null: a calendar month")


class Timeframes(BaseModel):
    """All timeframes, the shortest first."""

    model_config = example(timeframes=[{"timeframe": "1m", "milliseconds": 60000}])

    timeframes: list[Timeframe]


class Span(BaseModel):
    """A range of open times, both ends inclusive."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    since: int = Field(alias="from")
    until: int = Field(alias="to")


class Gap(Span):
    """A run of closed candles that is, or was, missing."""

    exchange: str
    symbol: str
    timeframe: str
    candles: int
    state: Literal["open", "repaired", "absent", "unnoticed"] = Field(
        description="open: to be repaired; absent: the exchange has nothing there; unnoticed: no scan has found it yet"
    )
    noticed: int | None = Field(description="When the gap was detected")
    settled: int | None = Field(description="When it was repaired, or known to be absent")
    origin: str | None = Field(description="Where the repair came from")
    reasons: list[str] = Field(description="Why messages were lost at that time")


class Counts(Span):
    """Closed candles of one series."""

    exchange: str
    symbol: str
    timeframe: str
    expected: int
    present: int
    missing: int
    repaired: int = Field(description="Were missing, and are present")
    empty: int = Field(description="Present, and nothing was traded in them")
    revised: int = Field(description="Corrected after they were closed")
    loading: bool = Field(description="History of it is being loaded")


class Coverage(BaseModel):
    """Stored and missing candles: of all series together, each gap, and each series."""

    model_config = example(
        time=1795176000123,
        expected=1000,
        present=998,
        missing=2,
        repaired=3,
        empty=0,
        revised=1,
        gaps=[
            {
                "from": 1795170000000,
                "to": 1795170060000,
                "exchange": "binance",
                "symbol": "BTC-USDT",
                "timeframe": "1m",
                "candles": 2,
                "state": "open",
                "noticed": 1795170130000,
                "settled": None,
                "origin": None,
                "reasons": ["the connection was lost"],
            }
        ],
        series=[
            {
                "from": 1795116000000,
                "to": 1795175940000,
                "exchange": "binance",
                "symbol": "BTC-USDT",
                "timeframe": "1m",
                "expected": 1000,
                "present": 998,
                "missing": 2,
                "repaired": 3,
                "empty": 0,
                "revised": 1,
                "loading": True,
            }
        ],
    )

    time: int
    expected: int
    present: int
    missing: int
    repaired: int
    empty: int
    revised: int
    gaps: list[Gap]
    series: list[Counts]
