"""Which exchange answers: one for the whole answer, the first in order whose offers can be used."""

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from msgspec.structs import replace

from services.core.conversion import REFERENCE
from services.core.errors import NothingFresh
from services.core.model import ActiveExchange, ExchangeSwitch, Instrument, Rate, RateCandidate, RejectReason
from services.core.rates import stale_reason

MAX_SWITCHES = 20  # switches remembered


class Selection(NamedTuple):
    """The exchange for an answer, its offers in the order asked, and what it could not give."""

    exchange: str
    candidates: dict[Instrument, RateCandidate]
    missing: dict[Instrument, str]

    @property
    def expires(self) -> int:
        """When the first of the offers will be too old."""
        return min(offer.expires for offer in self.candidates.values())


def select_exchange(
    rates: Mapping[str, Rate], directions: Sequence[Instrument], order: Sequence[str], now: int, partial: bool = False
) -> Selection:
    """The first exchange in `order` with a fresh offer for all of `asked`.

    One that is only just recovering is taken when no other can. With `partial`, the exchange that gives the most is
    taken when none gives all. Raises NothingFresh with the reason of each exchange.
    """
    offers = {name: {d: _current_candidate(rates.get(str(d)), name, now) for d in directions} for name in order}
    usable = [name for name in order if _all_usable(offers[name], {None})]
    allowed = {None, RejectReason.RECOVERING}
    if not usable or usable[0] == REFERENCE:
        before = order[: order.index(REFERENCE)] if usable else order
        usable = [name for name in before if _all_usable(offers[name], allowed)] or usable
    if usable:
        return Selection(usable[0], offers[usable[0]], {})
    given = {name: {d: o for d, o in offers[name].items() if o.rejected in allowed} for name in order}
    best = max(order, key=lambda name: len(given[name]), default=None)
    if not (partial and best and given[best]):
        raise NothingFresh("; ".join(f"{name}: {_reasons(offers[name])}" for name in order))
    missing = {d: f"{o.rejected}: {o.reason}" for d, o in offers[best].items() if d not in given[best]}
    return Selection(best, given[best], missing)


def update_active(
    active: ActiveExchange | None,
    rates: Mapping[str, Rate],
    directions: Sequence[Instrument],
    order: Sequence[str],
    now: int,
) -> ActiveExchange:
    """The exchange in use for all directions as of now; a change is remembered with its reason."""
    try:
        exchange, reason = select_exchange(rates, directions, order, now, partial=True).exchange, ""
    except NothingFresh as nothing:
        exchange, reason = None, str(nothing)
    if active and exchange == active.exchange:
        return replace(active, time=now)
    ahead = order[: order.index(exchange)] if exchange else ()
    passed = [
        f"{name}: {_reasons({d: _current_candidate(rates.get(str(d)), name, now) for d in directions})}"
        for name in ahead
    ]
    reason = reason or "; ".join(passed) or "first in order, and fresh"
    switch = ExchangeSwitch(now, active.exchange if active else None, exchange, reason)
    failovers = (active.failovers if active else 0) + _is_failover(switch, order)
    recent = (*(active.switches if active else ()), switch)[-MAX_SWITCHES:]
    return ActiveExchange(now, exchange, now, reason, failovers, recent)


def _all_usable(candidates: Mapping[Instrument, RateCandidate], allowed: Set[RejectReason | None]) -> bool:
    return all(offer.rejected in allowed for offer in candidates.values())


def _is_failover(switch: ExchangeSwitch, order: Sequence[str]) -> bool:
    """Leaving an exchange for a less preferred one, or for none. Coming back is not a failover."""
    if switch.previous not in order:
        return False
    return switch.exchange is None or order.index(switch.exchange) > order.index(switch.previous)


def _current_candidate(rate: Rate | None, exchange: str, now: int) -> RateCandidate:
    """An exchange's offer as it stands now: what was fresh when the rate was made may have aged since."""
    offer = next((o for o in rate.candidates if o.exchange == exchange), None) if rate else None
    if offer is None:
        return RateCandidate(exchange, (), rejected=RejectReason.MISSING, reason="nothing known")
    if offer.value is not None and (reason := stale_reason(offer, now)):
        return replace(offer, rejected=RejectReason.STALE, reason=reason)
    return offer


def _reasons(candidates: Mapping[Instrument, RateCandidate]) -> str:
    """The reasons of an exchange, the first few of them."""
    reasons = dict.fromkeys(f"{o.rejected}, {o.reason}" for o in candidates.values() if o.rejected)
    return " / ".join(list(reasons)[:3]) or "fresh"
