"""Queries and responses of the indicators' endpoints, for OpenAPI. Times are ms since the epoch."""

from typing import Annotated, Literal

from msgspec import Meta
from pydantic import BaseModel, Field

from services.api.candles.candle_query import CandleRangeQuery, Limit, SymbolName, TimeframeName
from services.api.candles.schemas import Loading
from services.api.schemas import example

TRUSTED_FROM_TEXT = """\
The open time from which on the values are those of any longer history. null: all are. The open time after the last
candle: none is, because too few candles are stored"""
WARMUP_TEXT = """\
Number of candles before the first timestamp (for levels: the last) that the value there depends on. If as many are
stored, `trusted_from` is null; `psar`, `sar` and `supertrend` can need more"""


class IndicatorsQuery(CandleRangeQuery, kw_only=True, frozen=True):
    """The query of `/api/indicators`."""

    symbol: SymbolName
    timeframe: TimeframeName
    indicators: Annotated[
        tuple[str, ...],
        Meta(
            description="A comma list of names with parameters, `sma:20,macd:12:26:9,ichimoku`. Parameters that are "
            "left out have their defaults: see /api/indicators/catalog",
            examples=["sma:20,rsi"],
        ),
    ]
    limit: Limit = None
    future: Annotated[
        bool,
        Meta(description="Also values after the last candle that are known already: the leading spans of `ichimoku`"),
    ] = False


class IndicatorLevel(BaseModel):
    """A price level. Its details depend on the indicator."""

    name: str = Field(description="`support`, `resistance`, `r1`, `61.8`, `poc`, `row` …")
    price: float
    touches: int | None = Field(None, description="sr: number of turning points")
    strength: float | None = Field(None, description="sr: 0 to 100")
    first: int | None = Field(None, description="sr: the first candle that turned there")
    last: int | None = Field(None, description="sr: the last one")
    ratio: float | None = Field(None, description="fib: percent of the way back")
    volume: float | None = Field(None, description="vp: volume of the row in units of the base")
    low: float | None = Field(None, description="vp: lower edge of the row")
    high: float | None = Field(None, description="vp: upper edge of the row")
    missing: int | None = Field(
        None, description="pivots: number of missing candles of their period; left out if none is missing"
    )


class Future(BaseModel):
    """Values after the last candle, at open times on the timeframe's grid."""

    timestamps: list[int]
    outputs: dict[str, list[float | None]] = Field(description="A value for each of these timestamps")


class Reading(BaseModel):
    """Values of one indicator beside the candles (`outputs`), or its prices as of the last candle (`levels`)."""

    indicator: str = Field(description="With all its parameters")
    name: str
    parameters: dict[str, float]
    overlay: bool = Field(description="Drawn over the price, otherwise below it")
    outputs: dict[str, list[float | None]] | None = Field(
        None, description="A value for each timestamp, null where there is none"
    )
    levels: list[IndicatorLevel] | None = None
    future: Future | None = Field(
        None, description="With `future=true`, if the indicator has values after the last candle"
    )
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
    timestamps: list[int] = Field(description="Open times of the candles; a missing candle is left out")
    closed: list[bool] = Field(description="Whether each candle is closed; the values of the forming one change")
    indicators: list[Reading] = Field(description="In the order of the request; empty if there is no candle")
    loading: Loading | None = Field(None, description="Present only while history is being loaded")


class Parameter(BaseModel):
    """A numeric parameter of an indicator."""

    name: str
    kind: Literal["whole", "number"]
    default: float
    least: float
    most: float


class Indicator(BaseModel):
    """An indicator with its parameters and outputs."""

    name: str
    title: str
    example: str = Field(description="With its defaults, in the order of the parameters")
    parameters: list[Parameter]
    shape: Literal["series", "levels"]
    outputs: list[str] = Field(description="Names of its values; empty for levels")
    overlay: bool = Field(description="Drawn over the price, otherwise below it")
    formula: str
    source: str = Field(description="The library or script that defines it")


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
