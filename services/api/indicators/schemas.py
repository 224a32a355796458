"""What the indicators' endpoints answer, for people and for OpenAPI. Times are ms since the epoch."""

from typing import Annotated, Literal

from msgspec import Meta
from pydantic import BaseModel, Field

from services.api.candles.candle_query import Limit, RangeQuery, SymbolName, TimeframeName
from services.api.candles.schemas import Loading
from services.api.schemas import example

TRUSTED_FROM_TEXT = """\
The opening from which on the values are those that any longer history would give; null: all are. The one
after the last where none is, because too little history is kept"""
WARMUP_TEXT = """\
Candles before the first timestamp (of levels: the last) that the value there is made of. With as many kept,
`trusted_from` is null; `psar`, `sar` and `supertrend` may need more"""


class IndicatorsQuery(RangeQuery, kw_only=True, frozen=True):
    """The query of `/api/indicators`."""

    symbol: SymbolName
    timeframe: TimeframeName
    indicators: Annotated[
        tuple[str, ...],
        Meta(
            description="A comma list of names with their parameters, `sma:20,macd:12:26:9,ichimoku`; what is left out "
            "has its default: see /api/indicators/catalog",
            examples=["sma:20,rsi"],
        ),
    ]
    limit: Limit = None
    future: Annotated[
        bool,
        Meta(description="Also what is known of open times after the last candle: the leading spans of `ichimoku`"),
    ] = False


class IndicatorLevel(BaseModel):
    """A price that matters. What is known of it depends on the indicator."""

    name: str = Field(description="`support`, `resistance`, `r1`, `61.8`, `poc`, `row` …")
    price: float
    touches: int | None = Field(None, description="sr: how often the price turned there")
    strength: float | None = Field(None, description="sr: 0 to 100")
    first: int | None = Field(None, description="sr: the first candle that turned there")
    last: int | None = Field(None, description="sr: the last one")
    ratio: float | None = Field(None, description="fib: percent of the way back")
    volume: float | None = Field(None, description="vp: what was traded in the row, in units of the base")
    low: float | None = Field(None, description="vp: where the row begins")
    high: float | None = Field(None, description="vp: where it ends")
    missing: int | None = Field(
        None, description="pivots: candles of their period that are not kept; left out where none is missing"
    )


class Future(BaseModel):
    """What is known of openings after the last candle, on the timeframe's grid."""

    timestamps: list[int]
    outputs: dict[str, list[float | None]] = Field(description="A value for each of these timestamps")


class Reading(BaseModel):
    """What one indicator says: values beside the candles (`outputs`) or prices as of the last candle (`levels`)."""

    indicator: str = Field(description="With all its parameters")
    name: str
    parameters: dict[str, float]
    overlay: bool = Field(description="Drawn over the price; else below it")
    outputs: dict[str, list[float | None]] | None = Field(
        None, description="A value for each timestamp; null: it has none"
    )
    levels: list[IndicatorLevel] | None = None
    future: Future | None = Field(None, description="With `future=true`, where the indicator knows something of it")
    warmup: int = Field(description=WARMUP_TEXT)
    trusted_from: int | None = Field(description=TRUSTED_FROM_TEXT)


class Indicators(BaseModel):
    """Indicators beside their candles, the oldest first. The header `Kurs-Exchange` names the exchange."""

    model_config = example(
        symbol="BTC-USDT",
        timeframe="1h",
        timestamps=[1795172400000, 1795176000000],
        closed=[True, False],
        indicators=[
            {
                "indicator": "bbands:20:2",
                "name": "bbands",
                "parameters": {"period": 20, "factor": 2},
                "overlay": True,
                "outputs": {
                    "upper": [97802.11, 97811.4],
                    "middle": [97614.93, 97620.02],
                    "lower": [97427.75, 97428.64],
                },
                "warmup": 19,
                "trusted_from": None,
            },
            {
                "indicator": "pivots",
                "name": "pivots",
                "parameters": {},
                "overlay": True,
                "levels": [{"name": "r1", "price": 98120.5}, {"name": "p", "price": 97540.25}],
                "warmup": 350,
                "trusted_from": None,
            },
        ],
    )

    symbol: str
    timeframe: str
    timestamps: list[int] = Field(description="Openings of the candles; one that is missing has no place")
    closed: list[bool] = Field(description="Whether more will be traded in each; the values of one that is not change")
    indicators: list[Reading] = Field(description="In the order of the question; empty where there is no candle")
    loading: Loading | None = Field(None, description="Only there while history is being loaded")


class Parameter(BaseModel):
    """A number that an indicator takes."""

    name: str
    kind: Literal["whole", "number"]
    default: float
    least: float
    most: float


class Indicator(BaseModel):
    """What is known of an indicator."""

    name: str
    title: str
    example: str = Field(description="With its defaults; parameters stand in their order")
    parameters: list[Parameter]
    shape: Literal["series", "levels"]
    outputs: list[str] = Field(description="Of a series")
    overlay: bool = Field(description="Drawn over the price; else below it")
    formula: str
    source: str = Field(description="Who computes it")


class Catalog(BaseModel):
    """All indicators."""

    model_config = example(
        indicators=[
            {
                "name": "sma",
                "title": "Simple moving average",
                "example": "sma:20",
                "parameters": [{"name": "period", "kind": "whole", "default": 20, "least": 2, "most": 500}],
                "shape": "series",
                "outputs": ["sma"],
                "overlay": True,
                "formula": "The mean of the last `period` closes.",
                "source": "TA-Lib SMA",
            }
        ]
    )

    indicators: list[Indicator]
