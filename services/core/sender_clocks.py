"""Stamps of other processes' wall clocks, shifted to this process's monotonic clock when a message arrives.

Two processes have nothing in common but wall time, and a wall clock may be wrong or may be set. So stamps are compared
with our wall clock once, on arrival; from then on ages are counted by the monotonic clock.
"""

from typing import TypeVar

from msgspec.structs import replace

from services.core.model import ActiveExchange, ExchangeStatus, ExchangeSwitch, InstrumentFeed, Leg, Rate, RateCandidate

MAX_SKEW_MS = 2_000  # a stamp that is further ahead is not believed
SKEW_REPORT_MS = 5_000  # for which a wrong clock is reported after the last message that showed it
STAMP_JITTER_MS = 50  # between two stamps of one moment that were both computed from monotonic time
M = TypeVar("M", Rate, ExchangeStatus, ActiveExchange)


class SenderClocks:
    """How the wall clocks of other processes, by the sender's name, compare with ours. Times in ms."""

    def __init__(self) -> None:
        self._skews: dict[str, tuple[int, int]] = {}  # ms ahead, and the monotonic time of the last message with it

    def to_monotonic(self, sender: str, sent: int, wall: int, monotonic: int) -> int | None:
        """Return the offset that makes monotonic times of the stamps in a message that was sent just now.

        None: it was sent in the future by our clock, so that its age is not known.
        """
        ahead = sent - wall
        if -MAX_SKEW_MS <= ahead <= MAX_SKEW_MS:
            if self._skews:
                self._skews.pop(sender, None)
        else:
            self._skews[sender] = ahead, monotonic
            if ahead > 0:
                return None
        # A message cannot come before it is sent: by that much the sender's clock is ahead.
        return monotonic - wall - max(0, ahead)

    def value_to_monotonic(self, sender: str, received: int, wall: int, monotonic: int) -> int | None:
        """Return the same for a value that may have been received long before it was sent."""
        ahead = received - wall
        if ahead > MAX_SKEW_MS:
            self._skews[sender] = ahead, monotonic
            return None
        return monotonic - wall - max(0, ahead)

    def describe_fault(self, sender: str, monotonic: int) -> str:
        """Return what is wrong with a sender's clock, or "" when nothing is known to be."""
        ahead, seen = self._skews.get(sender, (0, 0))
        if not ahead or monotonic - seen > SKEW_REPORT_MS:
            return ""
        if ahead > 0:
            return f"clock: {sender}'s stamps are {ahead / 1000:.0f} s ahead of this process's clock"
        return f"clock: {sender}'s stamps are {-ahead / 1000:.0f} s behind this process's clock, or come late"


def supersedes(incoming: int, stored: int, now: int) -> bool:
    """Whether a value stamped `incoming` replaces the stored one. A stored value from the future is always replaced."""
    return stored > now + MAX_SKEW_MS or stored <= incoming <= now + MAX_SKEW_MS


def shift_stamps(message: M, offset: int) -> M:
    """Return a message with all stamps of our clocks shifted by `offset` ms; an exchange's own times stay."""
    match message:
        case Rate():
            candidates = tuple([_shift_candidate(candidate, offset) for candidate in message.candidates])
            return replace(message, time=message.time + offset, candidates=candidates)
        case ExchangeStatus():
            times = {
                "time": message.time + offset,
                "since": message.since + offset,
                "received": _shift_optional(message.received, offset),
            }
            return replace(message, **times, feeds=tuple([_shift_feed(feed, offset) for feed in message.feeds]))
        case ActiveExchange():
            switches = tuple([_shift_switch(switch, offset) for switch in message.switches])
            return replace(message, time=message.time + offset, since=message.since + offset, switches=switches)


def _shift_candidate(candidate: RateCandidate, offset: int) -> RateCandidate:
    return replace(candidate, legs=tuple([_shift_leg(leg, offset) for leg in candidate.legs]))


def _shift_leg(leg: Leg, offset: int) -> Leg:
    return replace(leg, received=leg.received + offset, confirmed=leg.confirmed + offset, expires=leg.expires + offset)


def _shift_feed(feed: InstrumentFeed, offset: int) -> InstrumentFeed:
    return replace(
        feed, received=_shift_optional(feed.received, offset), confirmed=_shift_optional(feed.confirmed, offset)
    )


def _shift_switch(switch: ExchangeSwitch, offset: int) -> ExchangeSwitch:
    return replace(switch, time=switch.time + offset)


def _shift_optional(time: int | None, offset: int) -> int | None:
    return None if time is None else time + offset
