"""Responses about directions and exchanges. Times are ms since the epoch."""

from pydantic import BaseModel, Field

from services.api.schemas import example


class RouteLeg(BaseModel):
    """A leg of a route."""

    exchange: str
    instrument: str
    inverted: bool


class Route(BaseModel):
    """How an exchange gives a direction."""

    exchange: str
    legs: list[RouteLeg]
    not_traded: list[str] = Field(description="Legs that their exchange is known not to trade")


class Direction(BaseModel):
    """A direction for which there are rates."""

    direction: str
    base: str
    quote: str
    asset: str = Field(description="The asset of the base: USDT for USDTTRC")
    routes: list[Route]


class Directions(BaseModel):
    """All directions, with their routes in order of preference."""

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
                        "not_traded": [],
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
    age_ms: int | None = Field(description="Since the last value was received")
    confirmed_age_ms: int | None = Field(description="Since that value was last confirmed")


class Progress(BaseModel):
    """How much of the configured history is stored, in closed candles of all series."""

    expected: int
    missing: int


class ExchangeState(BaseModel):
    """The status of one exchange."""

    exchange: str
    connected: bool
    transport: str = Field(description="socket, polling or none")
    host: str
    reason: str
    since: int | None = Field(description="When it last connected or was lost")
    received: int | None = Field(description="The last message of any kind")
    age_ms: int | None
    heard_age_ms: int | None = Field(description="Since its collector's last report, which comes each second")
    reconnects: int
    instruments: list[InstrumentState]
    history: Progress | None = Field(description="null: not counted yet, or it has none")
    clock_offset_ms: int | None = Field(
        description="How far its clock is ahead of its collector's, negative: behind; null: not known yet"
    )


class Switch(BaseModel):
    """A change of the exchange in use."""

    time: int
    previous: str | None
    exchange: str | None
    reason: str


class PricerChoice(BaseModel):
    """What the pricer chose, as this replica last received it."""

    exchange: str | None
    since: int | None
    reason: str
    age_ms: int | None = Field(
        description="Since the pricer's last report, which comes each second; null: there was none"
    )


class InUse(BaseModel):
    """The exchange that this replica uses for all directions: that of its `/v1/courses`."""

    exchange: str | None
    since: int | None = Field(description="null: it is not what the pricer chose")
    reason: str
    failovers: int = Field(description="The pricer's, as `recent`")
    recent: list[Switch]
    pricer: PricerChoice


class Exchanges(BaseModel):
    """The exchanges, and which of them is in use and why."""

    model_config = example(
        time=1795176000123,
        simulated=False,
        dead_letters=0,
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
            "pricer": {
                "exchange": "deribit",
                "since": 1795175990000,
                "reason": "binance: stale, BTC-USDT from binance is 5.1 s old",
                "age_ms": 420,
            },
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
                "heard_age_ms": 310,
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
                "clock_offset_ms": -35,
            }
        ],
    )

    time: int
    simulated: bool
    in_use: InUse
    exchanges: list[ExchangeState]
    dead_letters: int | None = Field(
        description="Messages that could not be saved and wait for the operator (`kurs dead`); null: not known yet"
    )
