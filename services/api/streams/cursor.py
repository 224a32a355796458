"""Cursors: a client's positions, one seq for each topic of its channels, in their order."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.api.streams.channels import Channel
from services.api.streams.topics import Subscription
from services.core.errors import BadRequest
from services.core.markets import Market, is_other_market

MAX_JSON_INTEGER = 2**53 - 1  # that a double holds exactly
MAX_DIGITS = len(str(MAX_JSON_INTEGER))
EXPIRED_SEQ = 1  # below every seq, so that a client at it gets a reset
Subscriptions = Mapping[str, Sequence[Subscription[Any]]]  # of one client, by channel name


def parse(cursor: str | Sequence[int], channels: Sequence[Channel], market: Market) -> dict[Channel, list[int]]:
    """Return the positions of each channel's topics, none for "". Positions in the other market have expired.

    Raises BadRequest.
    """
    parts = cursor.split(",") if isinstance(cursor, str) else list(map(str, cursor))
    if parts in ([], [""]):
        return {}
    expected = sum(len(channel.topics) for channel in channels)
    if len(parts) != expected or not all(map(_is_seq, parts)):
        raise BadRequest(
            f"the cursor does not belong to these channels: it must have {expected} numbers, as the last event's id has"
        )
    seqs = iter(EXPIRED_SEQ if is_other_market(seq, market) else seq for seq in map(int, parts))
    return {channel: [next(seqs) for _ in channel.topics] for channel in channels}


def format_cursor(subscriptions: Subscriptions) -> str:
    """Return the cursor of a client. Runs at each event of each client of the event stream."""
    return ",".join([str(subscription.position) for group in subscriptions.values() for subscription in group])


def _is_seq(text: str) -> bool:
    """Return whether it is an integer of at most `MAX_JSON_INTEGER`."""
    return len(text) <= MAX_DIGITS and text.isascii() and text.isdigit() and int(text) <= MAX_JSON_INTEGER
