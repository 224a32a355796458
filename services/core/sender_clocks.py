"""Stamps of other processes' wall clocks, turned into this process's monotonic time when a message arrives.

Two processes can compare nothing but wall time, and any wall clock may be wrong, or be set. So stamps are compared with
our wall clock once, on arrival; from then on ages are counted by the monotonic clock.
"""

from typing import TypeVar

from msgspec.structs import replace

from services.core.model import ActiveExchange, ExchangeStatus, ExchangeSwitch, InstrumentFeed, Leg, Rate, RateCandidate

MAX_SKEW_MS = 2_000  # ms; what is stamped further ahead than this is not believed
SKEW_REPORT_MS = 5_000  # ms for which a wrong clock is reported after the last message that showed it
STAMP_JITTER_MS = 50  # ms by which stamps of one moment may differ when they were made of monotonic time more than once
M = TypeVar("M", Rate, ExchangeStatus, ActiveExchange)


class SenderClocks:
    """How the wall clocks of other processes, by the sender's name, compare with ours. Times in ms."""

    def __init__(self) -> None:
        self._skews: dict[str, tuple[int, int]] = {}  # how far ahead, and when (monotonic) that was seen

    def to_monotonic(self, sender: str, sent: int, wall: int, monotonic: int) -> int | None:
        """What makes monotonic times of the stamps in a message that was sent just now.

        None: it comes from the future, so nobody knows how old it is.
        """
        ahead = sent - wall
        if -MAX_SKEW_MS <= ahead <= MAX_SKEW_MS:
            if self._skews:
                self._skews.pop(sender, None)
        else:
            self._skews[sender] = ahead, monotonic
            if ahead > 0:
                return None
        return monotonic - wall - max(0, ahead)  # it was sent before it came: by so much the sender's clock is ahead

    def value_to_monotonic(self, sender: str, received: int, wall: int, monotonic: int) -> int | None:
        """The same for a value that may have been received long before it was sent."""
        ahead = received - wall
        if ahead > MAX_SKEW_MS:
            self._skews[sender] = ahead, monotonic
            return None
        return monotonic - wall - max(0, ahead)

    def describe_fault(self, sender: str, monotonic: int) -> str:
        """What is wrong with a sender's clock, for a person to read; empty when nothing is known to be."""
        ahead, seen = self._skews.get(sender, (0, 0))
        if not ahead or monotonic - seen > SKEW_REPORT_MS:
            return ""
        if ahead > 0:
            return f"clock: {sender}'s stamps are {ahead / 1000:.0f} s ahead of this process's clock"
        return f"clock: {sender}'s stamps are {-ahead / 1000:.0f} s behind this process's clock, or come late"


def supersedes(incoming: int, stored: int, now: int) -> bool:
    """Whether what is stamped `new` takes the place of what is kept; what is from the future gives way to anything."""
    return stored > now + MAX_SKEW_MS or stored <= incoming <= now + MAX_SKEW_MS


def shift_stamps(message: M, by: int) -> M:
    """A message with all stamps of our clocks moved by so many ms; an exchange's own times stay."""
    match message:
        case Rate():
            offers = tuple([_shift_candidate(offer, by) for offer in message.candidates])
            return replace(message, time=message.time + by, candidates=offers)
        case ExchangeStatus():
            times = {
                "time": message.time + by,
                "since": message.since + by,
                "received": _shift_optional(message.received, by),
            }
            return replace(message, **times, feeds=tuple([_shift_feed(source, by) for source in message.feeds]))
        case ActiveExchange():
            recent = tuple([_shift_switch(switch, by) for switch in message.switches])
            return replace(message, time=message.time + by, since=message.since + by, switches=recent)


def _shift_candidate(offer: RateCandidate, by: int) -> RateCandidate:
    return replace(offer, legs=tuple([_shift_leg(leg, by) for leg in offer.legs]))


def _shift_leg(leg: Leg, by: int) -> Leg:
    return replace(leg, received=leg.received + by, confirmed=leg.confirmed + by, expires=leg.expires + by)


def _shift_feed(source: InstrumentFeed, by: int) -> InstrumentFeed:
    return replace(
        source, received=_shift_optional(source.received, by), confirmed=_shift_optional(source.confirmed, by)
    )


def _shift_switch(switch: ExchangeSwitch, by: int) -> ExchangeSwitch:
    return replace(switch, time=switch.time + by)


def _shift_optional(time: int | None, by: int) -> int | None:
    return None if time is None else time + by
