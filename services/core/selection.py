"""Which exchange answers: one for the whole answer, the first in order whose offers can be used."""

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from msgspec.structs import replace

from services.core.conversion import REFERENCE
from services.core.errors import NothingFresh
from services.core.model import Aside, Choice, Instrument, Offer, Rate, Switch
from services.core.rates import staleness

RECENT = 20  # switches remembered


class Pick(NamedTuple):
    """The exchange for an answer, its offers in the order asked, and what it could not give."""

    exchange: str
    offers: dict[Instrument, Offer]
    missing: dict[Instrument, str]

    @property
    def expires(self) -> int:
        """When the first of the offers will be too old."""
        return min(offer.expires for offer in self.offers.values())


def pick(
    rates: Mapping[str, Rate], asked: Sequence[Instrument], order: Sequence[str], now: int, partial: bool = False
) -> Pick:
    """The first exchange in `order` with a fresh offer for all of `asked`.

    One that is only just recovering is taken when no other can. With `partial`, the exchange that gives the most is
    taken when none gives all. Raises NothingFresh with the reason of each exchange.
    """
    offers = {name: {d: _offer(rates.get(str(d)), name, now) for d in asked} for name in order}
    usable = [name for name in order if _all(offers[name], {None})]
    allowed = {None, Aside.RECOVERING}
    if not usable or usable[0] == REFERENCE:
        before = order[: order.index(REFERENCE)] if usable else order
        usable = [name for name in before if _all(offers[name], allowed)] or usable
    if usable:
        return Pick(usable[0], offers[usable[0]], {})
    given = {name: {d: o for d, o in offers[name].items() if o.aside in allowed} for name in order}
    best = max(order, key=lambda name: len(given[name]), default=None)
    if not (partial and best and given[best]):
        raise NothingFresh("; ".join(f"{name}: {_why(offers[name])}" for name in order))
    missing = {d: f"{o.aside}: {o.reason}" for d, o in offers[best].items() if d not in given[best]}
    return Pick(best, given[best], missing)


def chosen(
    choice: Choice | None, rates: Mapping[str, Rate], asked: Sequence[Instrument], order: Sequence[str], now: int
) -> Choice:
    """The exchange in use for all directions as of now; a change is remembered with its reason."""
    try:
        exchange, reason = pick(rates, asked, order, now, partial=True).exchange, ""
    except NothingFresh as nothing:
        exchange, reason = None, str(nothing)
    if choice and exchange == choice.exchange:
        return replace(choice, time=now)
    ahead = order[: order.index(exchange)] if exchange else ()
    passed = [f"{name}: {_why({d: _offer(rates.get(str(d)), name, now) for d in asked})}" for name in ahead]
    reason = reason or "; ".join(passed) or "first in order, and fresh"
    switch = Switch(now, choice.exchange if choice else None, exchange, reason)
    failovers = (choice.failovers if choice else 0) + _is_failover(switch, order)
    recent = (*(choice.recent if choice else ()), switch)[-RECENT:]
    return Choice(now, exchange, now, reason, failovers, recent)


def _all(offers: Mapping[Instrument, Offer], allowed: Set[Aside | None]) -> bool:
    return all(offer.aside in allowed for offer in offers.values())


def _is_failover(switch: Switch, order: Sequence[str]) -> bool:
    """Leaving an exchange for a less preferred one, or for none. Coming back is not a failover."""
    if switch.previous not in order:
        return False
    return switch.exchange is None or order.index(switch.exchange) > order.index(switch.previous)


def _offer(rate: Rate | None, exchange: str, now: int) -> Offer:
    """An exchange's offer as it stands now: what was fresh when the rate was made may have aged since."""
    offer = next((o for o in rate.offers if o.exchange == exchange), None) if rate else None
    if offer is None:
        return Offer(exchange, (), aside=Aside.MISSING, reason="nothing known")
    if offer.value is not None and (reason := staleness(offer, now)):
        return replace(offer, aside=Aside.STALE, reason=reason)
    return offer


def _why(offers: Mapping[Instrument, Offer]) -> str:
    """The reasons of an exchange, the first few of them."""
    reasons = dict.fromkeys(f"{o.aside}, {o.reason}" for o in offers.values() if o.aside)
    return " / ".join(list(reasons)[:3]) or "fresh"
