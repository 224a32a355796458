"""What clients of the WebSocket ask for."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.api.streams.channels import candle_channel_name, check_channel_count, indicator_channel_name
from services.api.streams.cursor import MAX_JSON_INTEGER
from services.core.errors import BadRequest, unknown_name

ACTIONS = ("subscribe", "unsubscribe", "resume", "ping")
Id = Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-MAX_JSON_INTEGER, le=MAX_JSON_INTEGER)] | None
"""Comes back with each answer, of which one message may have a hundred."""


class ClientRequest(Struct, frozen=True):
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
    def all_symbols(self) -> list[str]:
        """All symbols, each once."""
        return list(dict.fromkeys(filter(None, (self.symbol, *self.symbols))))

    @property
    def cursor(self) -> str | Sequence[int]:
        """The cursor."""
        return [self.after] if isinstance(self.after, int) else self.after

    @property
    def channel_names(self) -> list[str]:
        """The channels that it is about, counted before they are written out. Raises BadRequest."""
        if self.all_symbols and not self.timeframe:
            raise BadRequest('timeframe is missing: write for example "timeframe": "1h"')
        if (self.indicators or self.timeframe) and not self.all_symbols:
            raise BadRequest('symbol is missing: write for example "symbol": "BTCUSDT"')
        check_channel_count(len(self.all_symbols) * (1 + len(self.indicators)) + len(self.channels))
        of = [candle_channel_name(symbol, self.timeframe, self.exchange) for symbol in self.all_symbols]
        of += [
            indicator_channel_name(each, self.timeframe, name, self.exchange)
            for each in self.all_symbols
            for name in self.indicators
        ]
        return [*of, *self.channels]


class _Named(Struct):
    id: Id = None


_decoder, _named = msgspec.json.Decoder(ClientRequest), msgspec.json.Decoder(_Named)


def request_id(text: str | bytes) -> Id:
    """The id of a message, also of one that is no request; None where it has none."""
    try:
        return _named.decode(text).id
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def parse(text: str | bytes) -> ClientRequest:
    """A message as a request. Raises BadRequest, UnknownName."""
    try:
        request = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the message is not understood: {str(error)[:200]}") from None
    if request.action not in ACTIONS:
        raise unknown_name("action", request.action, ACTIONS)
    return request
