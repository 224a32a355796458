"""Dead letters: messages that cannot be saved, stored with the reason until an operator decides."""

from enum import StrEnum
from hashlib import blake2b

import msgspec
from msgspec import Struct

from services.core.bounds import clean_text
from services.core.model import Message

MAX_DEAD_LETTERS = 5_000  # in the store; the oldest are deleted
MAX_BODY_CHARS = 8_192  # of a body; a message that is in range is much shorter
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode


class DeadLetterCause(StrEnum):
    """Why a message is dead."""

    MESSAGE = "message"  # a value is out of range, or the store refuses it
    PROGRAM = "program"  # Kurs fails to process it: a bug
    SHAPE = "shape"  # it cannot be decoded
    DELIVERY = "delivery"  # it was delivered too often: each time its consumer ended before the ack


class DeadLetter(Struct, frozen=True):
    """A message, or the bytes that should have been one, as JSON text. The same text has the same `id`."""

    id: str
    queue: str
    kind: str
    symbol: str
    cause: DeadLetterCause
    reason: str
    time: int  # when it was stored
    body: str
    replay: bool = False  # an operator wants it published again


def from_message(message: Message, queue: str, cause: DeadLetterCause, reason: str, now: int) -> DeadLetter:
    """Return a message as a dead letter."""
    kind, symbol = str(message.__struct_config__.tag), clean_text(_symbol(message))
    try:
        body = _encode(message).decode()
    except ValueError:  # a lone surrogate in a text, which no bus would have carried
        body = repr(message)
    return DeadLetter(_id(queue, body), queue, kind, symbol, cause, clean_text(reason), now, body[:MAX_BODY_CHARS])


def from_bytes(body: bytes, queue: str, cause: DeadLetterCause, reason: str, now: int) -> DeadLetter:
    """Return bytes that cannot be decoded as a dead letter."""
    text = body[:MAX_BODY_CHARS].decode("utf-8", "backslashreplace").replace("\0", r"\u0000")
    return DeadLetter(_id(queue, body.hex()), queue, "", "", cause, clean_text(reason), now, text[:MAX_BODY_CHARS])


def to_message(letter: DeadLetter) -> Message:
    """Return the message of a dead letter. Raises ValueError when it cannot be decoded."""
    try:
        message: Message = _decode(letter.body)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return message


def _id(queue: str, body: str) -> str:
    return blake2b(f"{queue} {body}".encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()


def _symbol(message: Message) -> str:
    series = getattr(message, "series", None)
    instrument = series.instrument if series else getattr(message, "instrument", None)
    return str(instrument or "")
