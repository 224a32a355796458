"""Cursors: how far a client was told, a number per log of its channels, in their order."""

from collections.abc import Sequence

from services.api.streams.channels import Channel
from services.core.errors import BadRequest
from services.core.markets import Market, is_other_market

MAX_JSON_INTEGER = 2**53 - 1  # of whole numbers in JSON
MAX_DIGITS = len(str(MAX_JSON_INTEGER))
EXPIRED_SEQ = 1  # older than anything that any log holds: whoever was told so far has to begin anew


def parse(cursor: str | Sequence[int], channels: Sequence[Channel], market: Market) -> dict[Channel, list[int]]:
    """The numbers of each channel's logs, none for "". Those of the other market count as lost. Raises BadRequest."""
    words = cursor.split(",") if isinstance(cursor, str) else list(map(str, cursor))
    if words in ([], [""]):
        return {}
    due = sum(len(channel.topics) for channel in channels)
    if len(words) != due or not all(map(_is_seq, words)):
        raise BadRequest(
            f"the cursor does not belong to these channels: it has to be {due} numbers, as the last event's id was"
        )
    numbers = iter(EXPIRED_SEQ if is_other_market(number, market) else number for number in map(int, words))
    return {channel: [next(numbers) for _ in channel.topics] for channel in channels}


def _is_seq(word: str) -> bool:
    """Whether it is a whole number of at most `LARGEST`."""
    return len(word) <= MAX_DIGITS and word.isascii() and word.isdigit() and int(word) <= MAX_JSON_INTEGER
