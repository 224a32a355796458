"""What clients of the WebSocket ask for."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.api.streams.channels import candles, indicator, within_limit
from services.api.streams.cursor import LARGEST
from services.core.errors import BadRequest, unknown_name

ACTIONS = ("subscribe", "unsubscribe", "resume", "ping")
Id = Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-LARGEST, le=LARGEST)] | None
"""Comes back with each answer, of which one message may have a hundred."""


class Request(Struct, frozen=True):
    """One message of a client. `after`: a cursor, or the numbers in it."""

    action: str
    id: Id = None
    symbol: str = ""
    symbols: list[str] = []
    timeframe: str = ""
    exchange: str = ""
    indicators: list[str] = []
    channels: list[str] = []
    after: str | list[int] | int = ""
    timer: float | None = None

    @property
    def pairs(self) -> list[str]:
        """All symbols, each once."""
        return list(dict.fromkeys(filter(None, (self.symbol, *self.symbols))))

    @property
    def place(self) -> str | Sequence[int]:
        """The cursor."""
        return [self.after] if isinstance(self.after, int) else self.after

    @property
    def names(self) -> list[str]:
        """The channels that it is about, counted before they are written out. Raises BadRequest."""
        if self.pairs and not self.timeframe:
            raise BadRequest('timeframe is missing: write for example "timeframe": "1h"')
        if (self.indicators or self.timeframe) and not self.pairs:
            raise BadRequest('symbol is missing: write for example "symbol": "BTCUSDT"')
        within_limit(len(self.pairs) * (1 + len(self.indicators)) + len(self.channels))
        of = [candles(symbol, self.timeframe, self.exchange) for symbol in self.pairs]
        of += [indicator(each, self.timeframe, name, self.exchange) for each in self.pairs for name in self.indicators]
        return [*of, *self.channels]


class _Named(Struct):
    id: Id = None


_decoder, _named = msgspec.json.Decoder(Request), msgspec.json.Decoder(_Named)


def request_id(text: str | bytes) -> Id:
    """The id of a message, also of one that is no request; None where it has none."""
    try:
        return _named.decode(text).id
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def understood(text: str | bytes) -> Request:
    """A message as a request. Raises BadRequest, UnknownName."""
    try:
        request = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the message is not understood: {str(error)[:200]}") from None
    if request.action not in ACTIONS:
        raise unknown_name("action", request.action, ACTIONS)
    return request
