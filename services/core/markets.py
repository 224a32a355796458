"""The two markets that data can be of. Data of one is never saved, sent or counted with data of the other."""

from typing import Literal

Market = Literal["live", "simulated"]
LIVE: Market = "live"
SIMULATED: Market = "simulated"


def is_other_market(seq: int, market: Market) -> bool:
    """Whether a seq was assigned in the other market: even ones are live, odd ones simulated."""
    return bool(seq) and seq % 2 != (market == SIMULATED)


def next_seq(now: int, previous: int, market: Market) -> int:
    """Return the seq of a message that is published at `now` (ms) after `previous`."""
    number = max(now * 1000, previous + 1)
    return number + is_other_market(number, market)
