"""Outliers among rate candidates: those too far from the median of the others."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Context, Decimal
from statistics import median
from typing import TypeVar

from msgspec.structs import replace

from services.core.decimals import PRODUCT_CONTEXT
from services.core.model import RateCandidate, RejectReason

N = TypeVar("N", bound=Hashable)
DEVIATION_CONTEXT = Context(prec=200)  # an absurd price may be any number of digits away from the others


def reject_outliers(
    candidates: Sequence[RateCandidate], references: AbstractSet[str], anchor: Decimal | None, limit_bps: Decimal
) -> list[RateCandidate]:
    """Give each candidate its deviation from the median of the others, and reject those that are too far away.

    `anchor`: the value used last, if it is recent.
    """
    values = {c.exchange: c.value for c in candidates if c.rejected is None and c.value is not None}
    compared = [candidate for candidate in candidates if candidate.exchange in values]
    groups = _correlated_groups(compared, references, anchor is not None, limit_bps)
    outlying = {exchange for group in find_outliers(groups, anchor, limit_bps) for exchange in group}
    return [_with_deviation(candidate, values, candidate.exchange in outlying) for candidate in candidates]


def _with_deviation(candidate: RateCandidate, values: Mapping[str, Decimal], outlying: bool) -> RateCandidate:
    others = {exchange: value for exchange, value in values.items() if exchange != candidate.exchange}
    deviation = (
        deviation_bps(candidate.value, list(others.values())) if candidate.value is not None and others else None
    )
    if not outlying:
        return replace(candidate, deviation=deviation)
    reason = f"{deviation} basis points from the median of {', '.join(others)}"
    return replace(candidate, deviation=deviation, rejected=RejectReason.OUTLIER, reason=reason)


def _correlated_groups(
    candidates: Iterable[RateCandidate], references: AbstractSet[str], anchored: bool, limit: Decimal
) -> dict[tuple[str, ...], Decimal]:
    """Group the candidates that agree and depend on the same value of the reference.

    A group has one vote, with the value of its first candidate, because where the shared value is wrong, all of them
    are. Example: two exchanges multiply by the reference's USDT-RUB. They do not outvote a third together.
    """
    groups: dict[tuple[str, ...], tuple[Decimal, set[str]]] = {}  # exchanges → value, dependencies
    for candidate in candidates:
        if (value := candidate.value) is None:
            continue
        dependencies = _shared_dependencies(candidate, references, anchored)
        group = next(
            (
                group
                for group, (other, others) in groups.items()
                if others & dependencies and abs(deviation_bps(value, [other])) <= limit
            ),
            (),
        )
        if group:
            value, others = groups.pop(group)
            dependencies = dependencies | others
        groups[(*group, candidate.exchange)] = value, dependencies
    return {group: value for group, (value, _) in groups.items()}


def _shared_dependencies(candidate: RateCandidate, references: AbstractSet[str], anchored: bool) -> set[str]:
    """What may be wrong for several candidates at once: one leg of the reference, or the whole reference.

    The whole reference only where the value used last can decide. Without that value the reference and an exchange that
    depends on it would have one vote together, and could not outvote a third exchange that is wrong.
    """
    if anchored:
        return {leg.exchange for leg in candidate.legs if leg.exchange in references}
    return {str(leg.instrument) for leg in candidate.legs if not leg.own}


def find_outliers(values: Mapping[N, Decimal], anchor: Decimal | None, limit: Decimal) -> set[N]:
    """Return those that are farther than `limit` basis points from the median of the others, the worst first.

    Of two that disagree either may be wrong; then `anchor`, the value used last, decides if there is one.
    """
    left = dict(values)
    while len(left) > 2 or (len(left) == 2 and anchor is not None):
        anchors = [anchor] if anchor is not None and len(left) == 2 else []
        deviations = {
            name: deviation_bps(value, [*(v for other, v in left.items() if other != name), *anchors])
            for name, value in left.items()
        }
        worst = max(deviations, key=lambda name: abs(deviations[name]))
        if abs(deviations[worst]) <= limit:
            break
        del left[worst]
    return values.keys() - left.keys()


def deviation_bps(value: Decimal, others: Sequence[Decimal]) -> Decimal:
    """Return how far a value is from the median of others, in basis points to two places."""
    middle = median(others)
    bps = PRODUCT_CONTEXT.divide((value - middle) * 10_000, middle)
    return bps.quantize(Decimal("0.01"), context=DEVIATION_CONTEXT)
