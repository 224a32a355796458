"""What will go wrong and when: the same seed gives the same plan."""

from collections.abc import Collection, Sequence
from itertools import chain, repeat
from random import Random
from typing import NamedTuple

from loadtest.faults.kinds import DISK, KINDS

MEAN_SECONDS_BETWEEN = 9  # seconds from one fault to the next, on average
FaultKey = tuple[str, str]  # target and kind


class ScheduledFault(NamedTuple):
    """One fault: `at` seconds after the start, for so many seconds; 0: over as soon as it has happened."""

    at: float
    target: str
    kind: str
    seconds: float


def all_faults(disks: Collection[str]) -> list[FaultKey]:
    """Every fault that there is, once; disks are filled only where they may be."""
    cards = [(target, kind) for target, kinds in KINDS.items() for kind in kinds]
    return [(target, kind) for target, kind in cards if kind not in DISK or target in disks]


def schedule(seed: int, count: int, disks: Collection[str] = ()) -> Sequence[ScheduledFault]:
    """That many faults, none of them twice more often than another, in the order of their moments."""
    chance, cards = Random(seed), all_faults(disks)
    shuffled = chain.from_iterable(chance.sample(cards, len(cards)) for _ in repeat(None))
    moments = sorted(chance.uniform(0, count * MEAN_SECONDS_BETWEEN) for _ in range(count))
    return [
        ScheduledFault(at, target, kind, chance.uniform(*KINDS[target][kind].seconds))
        for at, (target, kind) in zip(moments, shuffled, strict=False)
    ]
