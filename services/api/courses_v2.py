"""The answer of `/v2/courses`: every rate with its age, its origin and what the others say."""

from collections.abc import Mapping
from decimal import Decimal

from services.api import schemas
from services.api.courses_query import Asked
from services.core.conversion import REFERENCE
from services.core.decimals import number
from services.core.model import Aside, Instrument, Leg, Offer, Rate
from services.core.rates import staleness
from services.core.selection import Pick


def v2(chosen: Pick, asked: Asked, rates: Mapping[str, Rate], now: int, by: int) -> schemas.Courses:
    """The same with age and origin of every number. `now` is monotonic, as the rates' stamps; `by` makes wall times."""
    courses = [_course(direction, offer, rates[str(direction)], now, by) for direction, offer in chosen.offers.items()]
    missing = [schemas.Missing(direction=str(d), reason=reason) for d, reason in chosen.missing.items()]
    missing += [schemas.Missing(direction=name, reason="no such direction") for name in asked.unknown]
    simulated = any(rates[str(direction)].simulated for direction in chosen.offers)
    return schemas.Courses(
        exchanger=chosen.exchange, time=now + by, simulated=simulated, courses=courses, missing=missing
    )


def _course(direction: Instrument, offer: Offer, rate: Rate, now: int, by: int) -> schemas.Course:
    others = [other for other in rate.offers if other.exchange != offer.exchange]
    return schemas.Course(
        direction=str(direction),
        value=text(offer.value) or "",
        bid=text(offer.bid),
        ask=text(offer.ask),
        exchange=offer.exchange,
        quality=quality(offer),
        age_ms=age_ms(offer, now),
        deviation_bps=text(offer.deviation),
        legs=[_leg(leg, now, by) for leg in offer.legs],
        others=[_other(other, now) for other in others],
    )


def quality(offer: Offer) -> schemas.Quality:
    """How a value came about."""
    if offer.exchange == REFERENCE:
        return "reference"
    return "direct" if len(offer.legs) == 1 and not offer.legs[0].inverted else "derived"


def _leg(leg: Leg, now: int, by: int) -> schemas.Leg:
    return schemas.Leg(
        exchange=leg.exchange,
        instrument=str(leg.instrument),
        value=number(leg.value),
        bid=text(leg.bid),
        ask=text(leg.ask),
        inverted=leg.inverted,
        time=leg.time,
        received=leg.received + by,
        age_ms=max(0, now - leg.confirmed),
    )


def _other(offer: Offer, now: int) -> schemas.Other:
    aside, reason = offer.aside, offer.reason
    if offer.value is not None and (old := staleness(offer, now)):
        aside, reason = Aside.STALE, old
    return schemas.Other(
        exchange=offer.exchange,
        value=text(offer.value),
        age_ms=age_ms(offer, now),
        deviation_bps=text(offer.deviation),
        set_aside=str(aside) if aside else None,
        reason=reason or None,
    )


def age_ms(offer: Offer, now: int) -> int | None:
    """The age of an offer's oldest leg in ms."""
    return max(0, now - min(leg.confirmed for leg in offer.legs)) if offer.legs else None


def text(value: Decimal | None) -> str | None:
    """A decimal as text."""
    return None if value is None else number(value)
