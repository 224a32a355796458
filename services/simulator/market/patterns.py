"""Patterns: the trades of ten seconds, and of a whole block as a row of those, with what they come to.

Every block uses the same trades in another order: its number of trades is constant, and ids follow from the date.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.simulator.market.listings import SimulatedListing
from services.simulator.market.shapes import SLICE_MS, VARIANTS, Floats, Ints

TYPICAL = 25  # a pattern's lots are the listing's, by so much: blocks and slices multiply them
MAX_PATTERN_FACTOR = 4  # slices' lots are a pattern's, times 1 to 4


class Pattern(NamedTuple):
    """Trades of one slice, as columns of equal length."""

    time: Ints  # ms from the slice's start
    offset: Ints  # from its level, in units of a few ticks
    weight: Ints  # lots
    fills: Ints
    sold: Ints  # 0 or 1


class TradeSums(NamedTuple):
    """Sums of trades, as arrays of equal shape."""

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


def draw(random: np.random.Generator, listing: SimulatedListing, swing: float) -> Pattern:
    """Draw the trades of a slice: a short walk about the level that ends where it began."""
    count = 1 + random.poisson(max(0.0, listing.rate * SLICE_MS / 1000 - 1))
    walk = np.cumsum(random.standard_normal(count)) / count**0.5
    walk -= walk[-1] * np.arange(1, count + 1) / count
    fills = random.geometric(0.6, count)
    return Pattern(
        np.sort(random.integers(0, SLICE_MS, count)),
        np.rint(walk * max(swing, 0.6)).astype(np.int64),
        np.maximum(random.lognormal(np.log(listing.size / TYPICAL), 1.1, count).astype(np.int64), fills),
        fills,
        random.integers(0, 2, count),
    )


def sums(pattern: Pattern) -> tuple[int, ...]:
    """Return a pattern's sums in the order of TradeSums."""
    offset, weight, bought = pattern.offset, pattern.weight, pattern.weight * (1 - pattern.sold)
    fills = int(pattern.fills.sum())
    shape = (offset[0], offset.max(), offset.min(), offset[-1])
    totals = (weight.sum(), (offset * weight).sum(), bought.sum(), (offset * bought).sum())
    return len(offset), fills, *map(int, shape), *map(int, totals)


class BlockPlan:
    """Kinds of blocks that a tape is made of: the slices of each end and variant.

    Every block uses every pattern as often as the others do.
    """

    def __init__(self, random: np.random.Generator, patterns: Sequence[Pattern], shapes: Floats) -> None:
        """`shapes` are in units."""
        slices = shapes.shape[-1]
        self.offset = np.rint(shapes).astype(np.int32)  # of the slice's level from the block's, by end, variant, slice
        self.pattern = random.permuted(np.tile(np.arange(slices) % len(patterns), (VARIANTS, 1)), axis=1)
        self.size = random.integers(1, MAX_PATTERN_FACTOR + 1, (VARIANTS, slices))  # multiplies weights
        of = TradeSums(*np.array([sums(pattern) for pattern in patterns]).T[:, self.pattern])
        # by variant and slice
        self._slices = TradeSums._make((*of[:2], *(each.astype(np.int32) for each in of[2:6]), *(self.size * of[6:])))
        self.trades, self.fills = (np.cumsum(column, axis=1) for column in of[:2])  # by the end of each slice

    def sums(self, end: Ints, variant: Ints, parts: int) -> TradeSums:
        """Return the sums of blocks of these kinds, a row for each, cut into so many equal parts."""
        of = TradeSums(*(column.reshape(VARIANTS, parts, -1) for column in self._slices))
        offset = self.offset[end, variant].reshape(len(end), parts, -1)
        total = TradeSums(*(column.sum(axis=2)[variant] for column in of))
        return total._replace(
            first=offset[..., 0] + of.first[variant, :, 0],
            high=(offset + of.high[variant]).max(axis=2),
            low=(offset + of.low[variant]).min(axis=2),
            last=offset[..., -1] + of.last[variant, :, -1],
            moment=total.moment + (offset * of.weight[variant]).sum(axis=2),
            bought_moment=total.bought_moment + (offset * of.bought[variant]).sum(axis=2),
        )
