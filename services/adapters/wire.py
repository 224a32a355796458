"""Messages as bytes: a JSON array of messages of one kind, and of one partition if they are worked on."""

from collections.abc import Container, Sequence
from typing import Annotated, NamedTuple

import msgspec

from services.core.model import Message, key

MOST = 400  # messages in one letter: each letter costs the broker as much as a hundred messages do
EVERYONE = "all"  # instead of a partition
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Annotated[list[Message], msgspec.Meta(min_length=1)])


class Letter(NamedTuple):
    """What travels as one."""

    kind: type[Message]
    partition: str
    body: bytes


def pack(messages: Sequence[Message], worked_on: Container[type[Message]]) -> list[Letter]:
    """The messages in letters, in their order.

    Those of kinds that are `worked_on` travel by partition, so that workers can share the partitions. All others are
    heard by everyone: together they cost a broker and its clients much less.
    """
    groups: dict[tuple[type[Message], str], list[Message]] = {}
    for message in messages:
        kind = type(message)
        groups.setdefault((kind, key(message) if kind in worked_on else EVERYONE), []).append(message)
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
