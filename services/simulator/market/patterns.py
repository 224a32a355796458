"""Patterns of trades: ten seconds' worth each, with what they come to."""

from typing import NamedTuple

import numpy as np

from services.simulator.market.listings import Listing
from services.simulator.market.paths import SLICE, Ints

SIZES = 20  # a slice's lots are a pattern's, times 1 to 19


class Pattern(NamedTuple):
    """The trades of one slice: columns of equal length."""

    time: Ints  # ms from the slice's start
    offset: Ints  # ticks from its level
    weight: Ints  # lots
    fills: Ints
    sold: Ints  # 0 or 1


class Sums(NamedTuple):
    """What patterns come to: a column per sum, a row per pattern."""

    trades: Ints
    fills: Ints
    first: Ints  # offsets
    high: Ints
    low: Ints
    last: Ints
    weight: Ints
    moment: Ints  # the sum of offsets times weights
    bought: Ints
    bought_moment: Ints


def draw(random: np.random.Generator, listing: Listing, swing: float) -> Pattern:
    """Trades of a slice: a short walk about the level that ends where it began."""
    count = 1 + random.poisson(max(0.0, listing.rate * SLICE / 1000 - 1))
    walk = np.cumsum(random.standard_normal(count)) / count**0.5
    walk -= walk[-1] * np.arange(1, count + 1) / count
    fills = random.geometric(0.6, count)
    return Pattern(
        np.sort(random.integers(0, SLICE, count)),
        np.rint(walk * max(swing, 0.6)).astype(np.int64),
        np.maximum(random.lognormal(np.log(listing.size / SIZES), 1.1, count).astype(np.int64), fills),
        fills,
        random.integers(0, 2, count),
    )


def sums(pattern: Pattern) -> tuple[int, ...]:
    """What it comes to, in the order of `Sums`."""
    offset, weight, bought = pattern.offset, pattern.weight, pattern.weight * (1 - pattern.sold)
    fills = int(pattern.fills.sum())
    shape = (offset[0], offset.max(), offset.min(), offset[-1])
    return len(offset), fills, *shape, weight.sum(), (offset * weight).sum(), bought.sum(), (offset * bought).sum()
