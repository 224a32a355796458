"""Queries and responses of the streams, for OpenAPI. docs/asyncapi.yaml describes the messages."""

from typing import Annotated, Any

from msgspec import Meta, Struct
from pydantic import BaseModel, Field

from services.api.schemas import example
from services.web import UnknownNames, WholeText

EVENTS = {
    "schema": {"type": "string"},
    "example": "event: btc_usd\n"
    'data: {"direction":"BTC-USD","value":"97595.412013","bid":"97595.41","ask":"97595.42","exchange":"binance",'
    '"simulated":false,"seq":1795733334123000,"time":1795733334123}\nid: 1795733334123000\n\n',
}


Channels = Annotated[
    tuple[str, ...],
    Meta(
        description="A comma list: `btc_usd` or any other direction, `courses`, `connection`, `source_changed`, "
        "`candles:BTCUSDT:1m`, `indicators:BTCUSDT:1h:sma:20`, and of a person, `tasks`",
        examples=["btc_usd,connection,candles:BTCUSDT:1m"],
    ),
]


Ticket = Annotated[str, Meta(description="A ticket of `POST /v1/stream/tickets`, for channels of one's own")]


class StreamQuery(Struct, kw_only=True, frozen=True):
    """The query of the event stream."""

    channels: Channels
    timer: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="Seconds between two events of a rate; 0: each change; default 60, for `courses` 0; "
            "from 0.1 to 86400",
            examples=[5],
        ),
    ] = None
    after: Annotated[WholeText, Meta(description="A cursor, where Last-Event-ID cannot be sent")] = ""
    ticket: Ticket = ""


class SocketQuery(Struct, kw_only=True, frozen=True):
    """The query of the WebSocket."""

    ticket: Ticket = ""
    unknown: UnknownNames = ()


class StreamHistoryQuery(Struct, kw_only=True, frozen=True):
    """The query of past events."""

    channels: Annotated[Channels, Meta(description="As for /v1/stream", examples=["candles:BTCUSDT:1m"])]
    after: Annotated[
        WholeText, Meta(description="A cursor: the id of the last event; without it, from the oldest entry")
    ] = ""
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(description="At most so many events; without it 500, or fewer where many topics are read"),
    ] = None


class StreamEvent(BaseModel):
    """One event."""

    channel: str
    data: dict[str, Any]
    seq: int = Field(description="The number of the entry in its topic")
    time: int


class History(BaseModel):
    """Events after a cursor, oldest first."""

    model_config = example(
        events=[
            {
                "channel": "btc_usd",
                "data": {
                    "direction": "BTC-USD",
                    "value": "97595.412013",
                    "bid": "97595.41",
                    "ask": "97595.42",
                    "exchange": "binance",
                    "simulated": False,
                },
                "seq": 1795733334123000,
                "time": 1795733334123,
            }
        ],
        cursor="1795733334123000",
        reset=[],
    )

    events: list[StreamEvent]
    cursor: str = Field(description="The cursor of the next request")
    reset: list[str] = Field(description="Channels of which the entries after the cursor are no longer retained")
