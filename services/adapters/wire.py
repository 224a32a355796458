"""Messages as bytes: a JSON array of messages of one kind and one partition."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

from services.core.model import Message, key

MOST = 50  # messages in one letter
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Annotated[list[Message], msgspec.Meta(min_length=1)])


class Letter(NamedTuple):
    """What travels as one."""

    kind: type[Message]
    partition: str
    body: bytes


def pack(messages: Sequence[Message]) -> list[Letter]:
    """The messages in letters, those of one kind and partition in their order."""
    groups: dict[tuple[type[Message], str], list[Message]] = {}
    for message in messages:
        groups.setdefault((type(message), key(message)), []).append(message)
    return [
        Letter(kind, partition, _encode(group[start : start + MOST]))
        for (kind, partition), group in groups.items()
        for start in range(0, len(group), MOST)
    ]


def unpack(body: bytes) -> list[Message]:
    """The messages of a letter's body. Raises msgspec.MsgspecError when it is none of ours."""
    messages: list[Message] = _decoder.decode(body)
    return messages


def tag(kind: type[Message]) -> str:
    """A kind's name on the wire."""
    return str(kind.__struct_config__.tag)
