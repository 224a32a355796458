"""Shapes: how a price may move through a block of time: one of a few bridges, and a drift to one of a few ends.

Everything is made of them, so that what years come to follows from what a few shapes come to.
"""

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLICE_MS = 10_000  # for which the underlying stands still
VARIANTS = 16  # bridges, from 0 to 0
ENDS, MAX_DEVIATIONS = 32, 3.5  # ends, spread evenly between minus and plus MAX_DEVIATIONS


def generator(*key: object) -> np.random.Generator:
    """Return a generator that is seeded by `key` alone."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


@lru_cache(8)
def shapes(seed: int, length: int) -> Floats:
    """Return how far a price is from its start, by end, variant and slice, for blocks of `length` ms.

    In standard deviations of a block. Shapes of one variant differ only in their drift.
    """
    slices = length // SLICE_MS
    steps = generator(seed, "shapes", length).standard_normal((VARIANTS, slices)) / slices**0.5
    walk, passed = np.cumsum(steps, axis=1), np.arange(slices) / slices
    bridges = np.hstack((np.zeros((VARIANTS, 1)), walk[:, :-1])) - np.outer(walk[:, -1], passed)
    return np.asarray(
        bridges + np.multiply.outer(np.linspace(-MAX_DEVIATIONS, MAX_DEVIATIONS, ENDS), passed)[:, None, :]
    )


def end(moves: Floats) -> Ints:
    """Return the ends nearest to these moves, in standard deviations."""
    return np.asarray(
        np.clip(np.rint((moves + MAX_DEVIATIONS) * ((ENDS - 1) / (2 * MAX_DEVIATIONS))), 0, ENDS - 1).astype(np.int64)
    )


def variant(numbers: Ints) -> Ints:
    """Return the bridges of blocks with these numbers: the same at all exchanges."""
    return even(numbers, 0, VARIANTS)


def even(numbers: Ints, salt: int, below: int) -> Ints:
    """Hash each number to [0, below) (the finaliser of splitmix64)."""
    bits = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(((bits ^ (bits >> np.uint64(31))) >> np.uint64(33)).astype(np.int64) % below)
