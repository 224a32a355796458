"""Messages of WebSocket clients."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from services.api.streams.channels import candle_channel_name, check_channel_count, indicator_channel_name
from services.api.streams.cursor import MAX_JSON_INTEGER
from services.core.errors import BadRequest, unknown_name

ACTIONS = ("subscribe", "unsubscribe", "resume", "ping")
Id = Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-MAX_JSON_INTEGER, le=MAX_JSON_INTEGER)] | None
"""Every response to a message has it, and a message may have a hundred responses. So its length is limited."""


class ClientRequest(Struct, frozen=True):
    """One message of a client. `after` is a cursor, or the numbers in it."""

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
        """`symbol` and `symbols`, each once."""
        return list(dict.fromkeys(filter(None, (self.symbol, *self.symbols))))

    @property
    def cursor(self) -> str | Sequence[int]:
        """`after` as a cursor, also where it is one number."""
        return [self.after] if isinstance(self.after, int) else self.after

    @property
    def channel_names(self) -> list[str]:
        """Names of all channels. They are counted first, because few bytes can name many. Raises BadRequest."""
        if self.all_symbols and not self.timeframe:
            raise BadRequest('timeframe is missing: write for example "timeframe": "1h"')
        if (self.indicators or self.timeframe) and not self.all_symbols:
            raise BadRequest('symbol is missing: write for example "symbol": "BTCUSDT"')
        check_channel_count(len(self.all_symbols) * (1 + len(self.indicators)) + len(self.channels))
        names = [candle_channel_name(symbol, self.timeframe, self.exchange) for symbol in self.all_symbols]
        names += [
            indicator_channel_name(symbol, self.timeframe, indicator, self.exchange)
            for symbol in self.all_symbols
            for indicator in self.indicators
        ]
        return [*names, *self.channels]


class _WithId(Struct):
    id: Id = None


_request_decoder, _id_decoder = msgspec.json.Decoder(ClientRequest), msgspec.json.Decoder(_WithId)


def request_id(text: str | bytes) -> Id:
    """Return the id of a message, even of an invalid one; None if it has none."""
    try:
        return _id_decoder.decode(text).id
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def parse(text: str | bytes) -> ClientRequest:
    """Parse a message. Raises BadRequest, UnknownName."""
    try:
        request = _request_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the message is not understood: {str(error)[:200]}") from None
    if request.action not in ACTIONS:
        raise unknown_name("action", request.action, ACTIONS)
    return request
