"""What the API answers, for people and for OpenAPI. Decimals are strings, times are ms since the epoch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Quality = Literal["direct", "crossed", "reference"]


def example(**members: Any) -> ConfigDict:
    """A model's example in OpenAPI."""
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
    """One factor of a rate, as its exchange gave it."""

    exchange: str
    instrument: str = Field(examples=["BTC-USDT"])
    value: str
    bid: str | None
    ask: str | None
    inverted: bool = Field(description="The rate divides by this leg")
    time: int | None = Field(description="The exchange's own time, where it tells")
    received: int = Field(description="When the value came to us")
    age_ms: int = Field(description="Since the value was last known to hold")


class Other(BaseModel):
    """What another exchange says of the same direction."""

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
        description="direct: one price in the very currency; crossed: a product of legs; reference: an aggregator's"
    )
    age_ms: int | None = Field(description="Of its oldest leg")
    deviation_bps: str | None
    legs: list[Leg]
    others: list[Other]


class Missing(BaseModel):
    """A direction that could not be given, and why."""

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
                "quality": "crossed",
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
    time: int = Field(description="The ages in this answer are as of this time")
    simulated: bool = Field(description="true: a simulated market, not the real one")
    courses: list[Course]
    missing: list[Missing]


class RouteLeg(BaseModel):
    """A leg of a route."""

    exchange: str
    instrument: str
    inverted: bool


class Route(BaseModel):
    """How an exchange gives a direction."""

    exchange: str
    legs: list[RouteLeg]


class Direction(BaseModel):
    """A direction that can be asked for."""

    direction: str
    base: str
    quote: str
    asset: str = Field(description="What the base stands for: USDT for USDTTRC")
    routes: list[Route]


class Directions(BaseModel):
    """All directions, with the ways to them in order of preference."""

    model_config = example(
        directions=[
            {
                "direction": "USDTTRC-RUB",
                "base": "USDTTRC",
                "quote": "RUB",
                "asset": "USDT",
                "routes": [
                    {
                        "exchange": "binance",
                        "legs": [
                            {"exchange": "binance", "instrument": "USDC-USDT", "inverted": True},
                            {"exchange": "coingecko", "instrument": "USDC-RUB", "inverted": False},
                        ],
                    }
                ],
            }
        ]
    )

    directions: list[Direction]


class InstrumentState(BaseModel):
    """One instrument's feed."""

    instrument: str
    feed: str = Field(description="waiting, live, silent or absent")
    received: int | None
    age_ms: int | None = Field(description="Since the last value came")
    confirmed_age_ms: int | None = Field(description="Since that value was last known to hold")


class History(BaseModel):
    """How much of the configured history is kept, in closed candles of all series."""

    expected: int
    missing: int


class ExchangeState(BaseModel):
    """What is known of one exchange."""

    exchange: str
    connected: bool
    transport: str = Field(description="socket, polling or none")
    host: str
    reason: str
    since: int | None = Field(description="When it last connected or was lost")
    received: int | None = Field(description="The last message of any kind")
    age_ms: int | None
    reconnects: int
    instruments: list[InstrumentState]
    history: History | None = Field(description="null: nobody has looked yet, or it has none")


class Switch(BaseModel):
    """A change of the exchange in use."""

    time: int
    previous: str | None
    exchange: str | None
    reason: str


class InUse(BaseModel):
    """The exchange that answers for all directions."""

    exchange: str | None
    since: int | None
    reason: str
    failovers: int
    recent: list[Switch]


class Exchanges(BaseModel):
    """The exchanges, and which of them is in use and why."""

    model_config = example(
        time=1795176000123,
        simulated=False,
        in_use={
            "exchange": "deribit",
            "since": 1795175990000,
            "reason": "binance: stale, BTC-USDT from binance is 5.1 s old",
            "failovers": 1,
            "recent": [
                {
                    "time": 1795175990000,
                    "previous": "binance",
                    "exchange": "deribit",
                    "reason": "binance: stale, BTC-USDT from binance is 5.1 s old",
                }
            ],
        },
        exchanges=[
            {
                "exchange": "deribit",
                "connected": True,
                "transport": "socket",
                "host": "www.deribit.com",
                "reason": "connected",
                "since": 1795100000000,
                "received": 1795176000100,
                "age_ms": 23,
                "reconnects": 0,
                "instruments": [
                    {
                        "instrument": "BTC-USD",
                        "feed": "live",
                        "received": 1795175999700,
                        "age_ms": 423,
                        "confirmed_age_ms": 40,
                    }
                ],
                "history": {"expected": 15000, "missing": 120},
            }
        ],
    )

    time: int
    simulated: bool
    in_use: InUse
    exchanges: list[ExchangeState]
