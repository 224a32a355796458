"""Responses with rates. Decimals are strings, times are ms since the epoch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Quality = Literal["direct", "derived", "reference"]


def example(**members: Any) -> ConfigDict:
    """Return a model's example in OpenAPI."""
    return ConfigDict(json_schema_extra={"example": members})


class CourseV1(BaseModel):
    """One direction."""

    direction: str = Field(examples=["BTC-USD"])
    value: float = Field(description="A JSON number with every digit of the source", examples=[54000.000123])


class CoursesV1(BaseModel):
    """Rates from one exchanger. This shape is frozen."""

    model_config = example(exchanger="binance", courses=[{"direction": "BTC-USD", "value": 54000.000123}])

    exchanger: str
    courses: list[CourseV1]


class Leg(BaseModel):
    """One factor of a rate, as its exchange published it."""

    exchange: str
    instrument: str = Field(examples=["BTC-USDT"])
    value: str
    bid: str | None
    ask: str | None
    inverted: bool = Field(description="The rate divides by this leg")
    time: int | None = Field(description="The exchange's own time, where it sends one")
    received: int = Field(description="When the value was received")
    age_ms: int = Field(description="Since the value was last confirmed")


class Other(BaseModel):
    """Another exchange's rate of the same direction."""

    exchange: str
    value: str | None
    age_ms: int | None
    deviation_bps: str | None = Field(description="From the median of the rest, in basis points")
    set_aside: str | None = Field(description="missing, stale, outlier or recovering; null: it could be used")
    reason: str | None


class Course(BaseModel):
    """One direction with age and origin."""

    direction: str
    value: str
    bid: str | None
    ask: str | None
    exchange: str
    quality: Quality = Field(
        description="direct: one price in the very currency; derived: a product of legs; reference: an aggregator's"
    )
    age_ms: int | None = Field(description="Of its oldest leg")
    deviation_bps: str | None
    legs: list[Leg]
    others: list[Other]


class Missing(BaseModel):
    """A direction without a rate, and why."""

    direction: str
    reason: str


class Courses(BaseModel):
    """Rates with age and origin."""

    model_config = example(
        exchanger="binance",
        time=1795176000123,
        simulated=False,
        courses=[
            {
                "direction": "BTC-USD",
                "value": "97595.412013",
                "bid": "97595.407014",
                "ask": "97595.417012",
                "exchange": "binance",
                "quality": "derived",
                "age_ms": 31002,
                "deviation_bps": "-0.27",
                "legs": [
                    {
                        "exchange": "binance",
                        "instrument": "BTC-USDT",
                        "value": "97614.935",
                        "bid": "97614.93",
                        "ask": "97614.94",
                        "inverted": False,
                        "time": None,
                        "received": 1795176000041,
                        "age_ms": 82,
                    },
                    {
                        "exchange": "coingecko",
                        "instrument": "USDT-USD",
                        "value": "0.9998",
                        "bid": None,
                        "ask": None,
                        "inverted": False,
                        "time": 1795175969000,
                        "received": 1795175970121,
                        "age_ms": 31002,
                    },
                ],
                "others": [
                    {
                        "exchange": "deribit",
                        "value": "97598.01",
                        "age_ms": 412,
                        "deviation_bps": "0.27",
                        "set_aside": None,
                        "reason": None,
                    }
                ],
            }
        ],
        missing=[],
    )

    exchanger: str
    time: int = Field(description="The ages in this response are as of this time")
    simulated: bool = Field(description="true: a simulated market, not the real one")
    courses: list[Course]
    missing: list[Missing]
