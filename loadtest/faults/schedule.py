"""The schedule of a fault run: the same seed gives the same schedule."""

from collections.abc import Collection, Sequence
from itertools import chain, repeat
from random import Random
from typing import NamedTuple

from loadtest.faults.kinds import DISK, KINDS

MEAN_SECONDS_BETWEEN = 9  # from one fault to the next
FaultKey = tuple[str, str]  # target and kind


class ScheduledFault(NamedTuple):
    """One fault, `at` seconds after the start. 0 seconds: it ends at once, like a kill."""

    at: float
    target: str
    kind: str
    seconds: float


def all_faults(disks: Collection[str]) -> list[FaultKey]:
    """Return every kind of fault of every target. Disks are filled only if they are mounted for it."""
    keys = [(target, kind) for target, kinds in KINDS.items() for kind in kinds]
    return [(target, kind) for target, kind in keys if kind not in DISK or target in disks]


def schedule(seed: int, count: int, disks: Collection[str] = ()) -> Sequence[ScheduledFault]:
    """Return `count` faults in the order of their times. Each occurs as often as the others, or once more."""
    rng, keys = Random(seed), all_faults(disks)
    shuffled = chain.from_iterable(rng.sample(keys, len(keys)) for _ in repeat(None))
    times = sorted(rng.uniform(0, count * MEAN_SECONDS_BETWEEN) for _ in range(count))
    return [
        ScheduledFault(at, target, kind, rng.uniform(*KINDS[target][kind].seconds))
        for at, (target, kind) in zip(times, shuffled, strict=False)
    ]
