"""Messages as bytes: a JSON array of messages of one kind, and of one partition if they are worked on."""

from collections.abc import Container, Sequence
from typing import Annotated, NamedTuple

import msgspec

from services.core.dead_letters import DeadLetter, DeadLetterCause, from_bytes, from_message
from services.core.model import Message, partition_key

MAX_BATCH_MESSAGES = 400  # messages in one letter: each letter costs the broker as much as a hundred messages do
BROADCAST = "all"  # instead of a partition
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Annotated[list[Message], msgspec.Meta(min_length=1)])
_parts = msgspec.json.Decoder(Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)])


class Batch(NamedTuple):
    """What travels as one."""

    kind: type[Message]
    partition: str
    body: bytes


class UndecodableMessage(NamedTuple):
    """What is no message of ours, and why."""

    body: bytes
    reason: str


def pack(messages: Sequence[Message], queued_kinds: Container[type[Message]]) -> list[Batch]:
    """The messages in letters, in their order.

    Those of kinds that are `worked_on` travel by partition, so that workers can share the partitions. All others are
    heard by everyone: together they cost a broker and its clients much less.
    """
    groups: dict[tuple[type[Message], str], list[Message]] = {}
    for message in messages:
        kind = type(message)
        groups.setdefault((kind, partition_key(message) if kind in queued_kinds else BROADCAST), []).append(message)
    return [
        Batch(kind, partition, _encode(group[start : start + MAX_BATCH_MESSAGES]))
        for (kind, partition), group in groups.items()
        for start in range(0, len(group), MAX_BATCH_MESSAGES)
    ]


def unpack(body: bytes) -> list[Message]:
    """The messages of a letter's body. Raises ValueError when not all of it can be read."""
    try:
        messages: list[Message] = _decoder.decode(body)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return messages


def unpack_each(body: bytes) -> tuple[list[Message], list[UndecodableMessage]]:
    """The messages of a letter's body as far as they can be read, and the rest, one by one."""
    messages, unreadable = list[Message](), list[UndecodableMessage]()
    try:
        parts = _parts.decode(body)
    except (ValueError, RecursionError) as error:
        return [], [UndecodableMessage(body, str(error))]
    for part in parts:
        try:
            messages += unpack(b"[%s]" % bytes(part))
        except ValueError as error:
            unreadable.append(UndecodableMessage(bytes(part), str(error)))
    return messages, unreadable


def to_dead_letters(body: bytes, queue: str, reason: str, now: int) -> list[DeadLetter]:
    """What a letter that was given up holds, message by message."""
    messages, unreadable = unpack_each(body)
    return [
        *(from_message(message, queue, DeadLetterCause.DELIVERY, reason, now) for message in messages),
        *(from_bytes(part, queue, DeadLetterCause.SHAPE, why, now) for part, why in unreadable),
    ]


def kind_name(kind: type[Message]) -> str:
    """A kind's name on the wire."""
    return str(kind.__struct_config__.tag)
