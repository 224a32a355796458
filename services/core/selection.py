"""Which exchange's candidates are served: one exchange for a whole response, the first in order that is usable."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from services.core.errors import NothingFresh
from services.core.model import ActiveExchange, ExchangeSwitch, Instrument, Rate, RateCandidate, RejectReason
from services.core.rates import REASON_SEPARATOR, stale_reason

MAX_SWITCHES = 20  # that are remembered
MAX_REASONS = 3  # of one exchange in a text

Candidates = Mapping[Instrument, RateCandidate]


class ExchangeOrder(NamedTuple):
    """Exchanges, the preferred one first. The values of `references` are older than those of the others."""

    names: Sequence[str]
    references: Collection[str]

    def before(self, name: str | None) -> Sequence[str]:
        """Return those that are preferred to an exchange; all of them for None."""
        return self.names if name is None else self.names[: self.names.index(name)]


class Selection(NamedTuple):
    """The exchange of a response, its candidates in the order of the request, and why others are missing."""

    exchange: str
    candidates: dict[Instrument, RateCandidate]
    missing: dict[Instrument, str]

    @property
    def expires(self) -> int:
        """When the first of the candidates is too old."""
        return min(candidate.expires for candidate in self.candidates.values())


def select_exchange(
    rates: Mapping[str, Rate],
    directions: Sequence[Instrument],
    order: ExchangeOrder,
    now: int,
    partial: bool = False,
) -> Selection:
    """Return the first exchange in `order` with a fresh candidate for all directions.

    One that is recovering is selected before a reference, whose values are older, and where no other is usable. With
    `partial`, the exchange that has the most directions is selected where none has all. Raises NothingFresh with the
    reason of each exchange.
    """
    by_exchange = {name: _current_candidates(rates, name, directions, now) for name in order.names}
    fresh = [name for name in order.names if all(c.rejected is None for c in by_exchange[name].values())]
    if fresh and fresh[0] not in order.references:
        return Selection(fresh[0], by_exchange[fresh[0]], {})
    preferred = order.before(fresh[0] if fresh else None)
    recovering = [name for name in preferred if all(map(_is_usable, by_exchange[name].values()))]
    if complete := [*recovering, *fresh]:
        return Selection(complete[0], by_exchange[complete[0]], {})
    usable = {name: {d: c for d, c in by_exchange[name].items() if _is_usable(c)} for name in order.names}
    best = max(order.names, key=lambda name: len(usable[name]), default=None)
    if not (partial and best and usable[best]):
        raise NothingFresh("; ".join(f"{name}: {_reasons(by_exchange[name])}" for name in order.names))
    missing = {d: f"{c.rejected}: {c.reason}" for d, c in by_exchange[best].items() if d not in usable[best]}
    return Selection(best, usable[best], missing)


def update_active(
    active: ActiveExchange | None,
    rates: Mapping[str, Rate],
    directions: Sequence[Instrument],
    order: ExchangeOrder,
    now: int,
) -> ActiveExchange:
    """Return the active exchange for all directions as of now; a switch is remembered with its reason."""
    try:
        exchange, reason = select_exchange(rates, directions, order, now, partial=True).exchange, ""
    except NothingFresh as nothing:
        exchange, reason = None, str(nothing)
    if active and exchange == active.exchange:
        return replace(active, time=now)
    preferred = order.before(exchange) if exchange else ()
    skipped = [f"{name}: {_reasons(_current_candidates(rates, name, directions, now))}" for name in preferred]
    reason = reason or "; ".join(skipped) or "first in order, and fresh"
    switch = ExchangeSwitch(now, active.exchange if active else None, exchange, reason)
    failovers = (active.failovers if active else 0) + _is_failover(switch, order.names)
    switches = (*(active.switches if active else ()), switch)[-MAX_SWITCHES:]
    return ActiveExchange(now, exchange, now, reason, failovers, switches)


def summarize_rejections(
    rates: Mapping[str, Rate], directions: Sequence[Instrument], exchanges: Sequence[str], now: int
) -> str:
    """Return in one line of a log how many directions each exchange lacks, and the reason of the first of them."""
    texts = list[str]()
    for exchange in exchanges:
        candidates = _current_candidates(rates, exchange, directions, now).values()
        if rejected := [candidate for candidate in candidates if candidate.rejected]:
            reason = rejected[0].reason.partition(REASON_SEPARATOR)[0]
            count = f"{len(rejected)} of {len(directions)} directions"
            texts.append(f"{exchange}: {count}: {rejected[0].rejected}, {reason}")
    return "; ".join(texts)


def _is_usable(candidate: RateCandidate) -> bool:
    return candidate.rejected in (None, RejectReason.RECOVERING)


def _is_failover(switch: ExchangeSwitch, order: Sequence[str]) -> bool:
    """Whether a switch is to a less preferred exchange, or to none. A switch back is no failover."""
    if switch.previous not in order:
        return False
    return switch.exchange is None or order.index(switch.exchange) > order.index(switch.previous)


def _current_candidates(
    rates: Mapping[str, Rate], exchange: str, directions: Sequence[Instrument], now: int
) -> dict[Instrument, RateCandidate]:
    return {direction: _current_candidate(rates.get(str(direction)), exchange, now) for direction in directions}


def _current_candidate(rate: Rate | None, exchange: str, now: int) -> RateCandidate:
    """An exchange's candidate as of now: one that was fresh when the rate was calculated may be stale."""
    candidate = next((c for c in rate.candidates if c.exchange == exchange), None) if rate else None
    if candidate is None:
        return RateCandidate(exchange, (), rejected=RejectReason.MISSING, reason="nothing known")
    if candidate.value is not None and (reason := stale_reason(candidate, now)):
        return replace(candidate, rejected=RejectReason.STALE, reason=reason)
    return candidate


def _reasons(candidates: Candidates) -> str:
    reasons = dict.fromkeys(f"{c.rejected}, {c.reason}" for c in candidates.values() if c.rejected)
    return " / ".join(list(reasons)[:MAX_REASONS]) or "fresh"
