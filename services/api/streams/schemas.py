"""What is asked of streams and answered, for OpenAPI. The messages themselves are described by AsyncAPI."""

from typing import Any

from pydantic import BaseModel, Field

from services.api.schemas import example

EVENTS = {
    "schema": {"type": "string"},
    "example": "event: btc_usd\n"
    'data: {"direction":"BTC-USD","value":"97595.412013","bid":"97595.41","ask":"97595.42","exchange":"binance",'
    '"simulated":false,"seq":1795733334123000,"time":1795733334123}\nid: 1795733334123000\n\n',
}


class StreamQuestion(BaseModel):
    """What to follow."""

    channels: str = Field(
        description="A comma list: `btc_usd` or any other direction, `courses`, `connection`, `source_changed`, "
        "`candles:BTCUSDT:1m`, `indicators:BTCUSDT:1h:sma:20`",
        examples=["btc_usd,connection,candles:BTCUSDT:1m"],
    )
    timer: float | None = Field(
        None,
        ge=0,
        description="Seconds between two events of a rate; 0: at each change; without it 60, `courses`: 0; "
        "from 0.1 to 86400",
    )
    after: str | None = Field(None, description="A cursor, where Last-Event-ID cannot be sent")


class HistoryQuestion(BaseModel):
    """What was told."""

    channels: str = Field(description="As the stream's", examples=["candles:BTCUSDT:1m"])
    after: str | None = Field(None, description="A cursor: the id of the last event; without it from the oldest kept")
    limit: int = Field(500, ge=1, le=1000)


class StreamEvent(BaseModel):
    """One event."""

    channel: str
    data: dict[str, Any]
    seq: int = Field(description="Its number in the log of the channel")
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
    cursor: str = Field(description="Where to go on")
    reset: list[str] = Field(description="Channels of which what came after the cursor is not known any more")
