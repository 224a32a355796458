"""The two markets that data can be of. What is of one is never kept, sent or counted with what is of the other."""

from typing import Literal

Market = Literal["live", "simulated"]
LIVE: Market = "live"
SIMULATED: Market = "simulated"


def is_other_market(seq: int, market: Market) -> bool:
    """Whether a log's number was given in the other market: even ones are live, odd ones simulated."""
    return bool(seq) and seq % 2 != (market == SIMULATED)


def next_seq(now: int, previous: int, market: Market) -> int:
    """The number of what is published at `now` (ms) after `previous`, in that market's half of all numbers."""
    number = max(now * 1000, previous + 1)
    return number + is_other_market(number, market)
