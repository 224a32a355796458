"""Messages as bytes: a JSON array of messages of one kind, and of one partition for kinds of work queues."""

from collections.abc import Container, Sequence
from typing import Annotated, NamedTuple

import msgspec

from services.core.dead_letters import DeadLetter, DeadLetterCause, from_bytes, from_message
from services.core.model import Message, partition_key

MAX_PAYLOAD_MESSAGES = 400  # a batch costs the broker as much as a hundred messages in it
BROADCAST = "all"  # in place of a partition
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Annotated[list[Message], msgspec.Meta(min_length=1)])
_parts = msgspec.json.Decoder(Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)])


class Batch(NamedTuple):
    """Several messages in one payload of the bus."""

    kind: type[Message]
    partition: str
    body: bytes


class UndecodableMessage(NamedTuple):
    """Bytes that are not a message, and why."""

    body: bytes
    reason: str


def pack(messages: Sequence[Message], queued_kinds: Container[type[Message]]) -> list[Batch]:
    """Return the messages in batches, in their order.

    Messages of `queued_kinds` are batched by partition, so that workers can share the partitions. All other kinds are
    broadcast, in larger batches that cost the broker and its clients much less.
    """
    groups: dict[tuple[type[Message], str], list[Message]] = {}
    for message in messages:
        kind = type(message)
        groups.setdefault((kind, partition_key(message) if kind in queued_kinds else BROADCAST), []).append(message)
    return [
        Batch(kind, partition, _encode(group[start : start + MAX_PAYLOAD_MESSAGES]))
        for (kind, partition), group in groups.items()
        for start in range(0, len(group), MAX_PAYLOAD_MESSAGES)
    ]


def unpack(body: bytes) -> list[Message]:
    """Return the messages of a batch's body. Raises ValueError if one cannot be decoded."""
    try:
        messages: list[Message] = _decoder.decode(body)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return messages


def unpack_each(body: bytes) -> tuple[list[Message], list[UndecodableMessage]]:
    """Return the messages of a batch's body that can be decoded, and the others one by one."""
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
    """Return the dead letters of an abandoned delivery, one for each message."""
    messages, unreadable = unpack_each(body)
    return [
        *(from_message(message, queue, DeadLetterCause.DELIVERY, reason, now) for message in messages),
        *(from_bytes(part, queue, DeadLetterCause.SHAPE, why, now) for part, why in unreadable),
    ]


def kind_name(kind: type[Message]) -> str:
    """Return a kind's name on the wire."""
    return str(kind.__struct_config__.tag)
