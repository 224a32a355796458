"""The body of `/v2/courses`: every rate with its age, its legs and the other exchanges' rates."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from services.api import schemas
from services.core.decimals import format_decimal
from services.core.model import Instrument, Leg, Rate, RateCandidate, RejectReason
from services.core.rates import stale_reason
from services.core.selection import Selection
from services.exchanges import REFERENCES


def v2_body(
    selection: Selection, unknown: Sequence[str], rates: Mapping[str, Rate], now: int, wall_offset: int
) -> schemas.Courses:
    """Return the body. `now` is monotonic, as the times of rates; `by` is added to get wall times."""
    courses = [
        _course(direction, offer, rates[str(direction)], now, wall_offset)
        for direction, offer in selection.candidates.items()
    ]
    missing = [schemas.Missing(direction=str(d), reason=reason) for d, reason in selection.missing.items()]
    missing += [schemas.Missing(direction=name, reason="no such direction") for name in unknown]
    simulated = any(rates[str(direction)].simulated for direction in selection.candidates)
    return schemas.Courses(
        exchanger=selection.exchange, time=now + wall_offset, simulated=simulated, courses=courses, missing=missing
    )


def _course(direction: Instrument, offer: RateCandidate, rate: Rate, now: int, wall_offset: int) -> schemas.Course:
    others = [other for other in rate.candidates if other.exchange != offer.exchange]
    return schemas.Course(
        direction=str(direction),
        value=decimal_text(offer.value) or "",
        bid=decimal_text(offer.bid),
        ask=decimal_text(offer.ask),
        exchange=offer.exchange,
        quality=quality(offer),
        age_ms=age_ms(offer, now),
        deviation_bps=decimal_text(offer.deviation),
        legs=[_leg(leg, now, wall_offset) for leg in offer.legs],
        others=[_other(other, now) for other in others],
    )


def quality(offer: RateCandidate) -> schemas.Quality:
    """Return how a value was computed."""
    if offer.exchange in REFERENCES:
        return "reference"
    return "direct" if len(offer.legs) == 1 and not offer.legs[0].inverted else "derived"


def _leg(leg: Leg, now: int, wall_offset: int) -> schemas.Leg:
    return schemas.Leg(
        exchange=leg.exchange,
        instrument=str(leg.instrument),
        value=format_decimal(leg.value),
        bid=decimal_text(leg.bid),
        ask=decimal_text(leg.ask),
        inverted=leg.inverted,
        time=leg.time,
        received=leg.received + wall_offset,
        age_ms=max(0, now - leg.confirmed),
    )


def _other(offer: RateCandidate, now: int) -> schemas.Other:
    aside, reason = offer.rejected, offer.reason
    if offer.value is not None and (old := stale_reason(offer, now)):
        aside, reason = RejectReason.STALE, old
    return schemas.Other(
        exchange=offer.exchange,
        value=decimal_text(offer.value),
        age_ms=age_ms(offer, now),
        deviation_bps=decimal_text(offer.deviation),
        set_aside=str(aside) if aside else None,
        reason=reason or None,
    )


def age_ms(offer: RateCandidate, now: int) -> int | None:
    """Return the age of a candidate's oldest leg in ms."""
    return max(0, now - min(leg.confirmed for leg in offer.legs)) if offer.legs else None


def decimal_text(value: Decimal | None) -> str | None:
    """Return a decimal as text."""
    return None if value is None else format_decimal(value)
