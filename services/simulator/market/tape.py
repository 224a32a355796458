"""The tape: a listing's trades, made up from the seed, at any time and without those before.

A day is 8,640 slices of ten seconds. Each slice is one of a few dozen patterns of trades, placed at the underlying's
level. A pattern's sums are known, so that bars of years come without drawing their trades, and are exact all the same.
Every day uses the same patterns in another order: a day's number of trades is constant, and ids follow from the date.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from services.simulator.market import bars
from services.simulator.market.bars import Bars, Trade
from services.simulator.market.listings import ASSETS, DAY, MINUTE, Listing
from services.simulator.market.paths import SLICE, SLICES, Ints, Paths, generator
from services.simulator.market.patterns import SIZES, Sums, draw, sums

PATTERNS = 48
NOISE = 1.2e-4  # how far an exchange strays from the underlying
SWING = 0.8e-4  # how far trades stray within a slice


class Tape(Protocol):
    """All trades of one listing."""

    listing: Listing
    start: int  # no trade is earlier
    salt: int  # makes its quotes its own

    def __hash__(self) -> int:
        """Tapes may be keys of caches."""

    def trades(self, start: int, end: int) -> list[Trade]:
        """Trades in [start, end), by time."""

    def following(self, first: int, limit: int) -> list[Trade]:
        """Up to `limit` trades from the id `first` on."""

    def before(self, time: int) -> Trade | None:
        """The last trade before `time`."""

    def minutes(self, day: int) -> Bars:
        """The day's bars of one minute."""


class Day(NamedTuple):
    """One day, a row per slice."""

    pattern: Ints
    level: Ints  # ticks
    scale: int  # multiplies offsets
    size: Ints  # multiplies weights
    id: Ints  # of the first trade
    fill: Ints  # of its first fill


class RandomTape:
    """A tape made up from the seed."""

    def __init__(self, listing: Listing, paths: Paths) -> None:
        self.listing, self._paths, self.start = listing, paths, listing.since * DAY
        random = generator(paths.seed, listing.exchange, listing.symbol, "patterns")
        self.salt = int(random.integers(2**40))
        base, quote = (ASSETS[asset].first for asset in listing.instrument[:2])
        self._reference = base / quote / float(listing.tick)
        self._patterns = [draw(random, listing, self._reference * SWING) for _ in range(PATTERNS)]
        self._sums = Sums(*np.array([sums(pattern) for pattern in self._patterns]).T)
        self._order = np.arange(SLICES) % PATTERNS
        self.trades_a_day = int(self._sums.trades[self._order].sum())
        self._fills_a_day = int(self._sums.fills[self._order].sum())
        self._day = lru_cache(8)(self._draw)
        self._slice = lru_cache(64)(self._trades)
        self.minutes = lru_cache(48)(self._minutes)

    def trades(self, start: int, end: int) -> list[Trade]:
        start = max(start, self.start)
        slices = range(start // SLICE, -(-end // SLICE))
        return [trade for number in slices for trade in self._slice(number) if start <= trade.time < end]

    def following(self, first: int, limit: int) -> list[Trade]:
        found: list[Trade] = []
        for number in self._slices_from(max(first, 1)):
            found += [trade for trade in self._slice(number) if trade.id >= first]
            if len(found) >= limit:
                break
        return found[:limit]

    def before(self, time: int) -> Trade | None:
        if time <= self.start:
            return None
        recent = self.trades(time - time % SLICE - SLICE, time)  # no slice is without a trade
        return recent[-1] if recent else None

    def _slices_from(self, first: int) -> Iterator[int]:
        days, within = divmod(first - 1, self.trades_a_day)
        day = self.listing.since + days
        row = int(np.searchsorted(self._day(day).id, first, side="right")) - 1 if within else 0
        number = day * SLICES + row
        while True:
            yield number
            number += 1

    def _draw(self, day: int) -> Day:
        random = generator(self._paths.seed, self.listing.exchange, self.listing.symbol, day)
        pattern = random.permutation(self._order)
        times = day * DAY + np.arange(SLICES) * SLICE
        own = self._paths.wander(f"{self.listing.exchange} {self.listing.symbol}", times, 10 * MINUTE)
        prices = np.exp(self._paths.cross(self.listing.instrument, day) + NOISE * own)
        level = np.rint(prices / float(self.listing.tick)).astype(np.int64)
        passed = day - self.listing.since
        return Day(
            pattern,
            level,
            max(1, round(float(level[0]) / self._reference)),
            random.integers(1, SIZES, SLICES),
            1 + passed * self.trades_a_day + _counts_before(self._sums.trades[pattern]),
            1 + passed * self._fills_a_day + _counts_before(self._sums.fills[pattern]),
        )

    def _trades(self, number: int) -> tuple[Trade, ...]:
        """The trades of one slice, counted from 1970."""
        day, row = self._day(number // SLICES), number % SLICES
        pattern = self._patterns[day.pattern[row]]
        first = day.fill[row] + _counts_before(pattern.fills)
        columns = (
            day.id[row] + np.arange(len(pattern.time)),
            number * SLICE + pattern.time,
            day.level[row] + day.scale * pattern.offset,
            day.size[row] * pattern.weight,
            first,
            first + pattern.fills - 1,
            pattern.sold.astype(bool),
        )
        return tuple(map(Trade._make, zip(*(column.tolist() for column in columns), strict=True)))

    def _minutes(self, day: int) -> Bars:
        drawn = self._day(day)
        total = Sums(*(column[drawn.pattern] for column in self._sums))
        level, scale, size = drawn.level, drawn.scale, drawn.size
        columns = (
            day * DAY + np.arange(SLICES) * SLICE,
            *(level + scale * offset for offset in (total.first, total.high, total.low, total.last)),
            size * total.weight,
            size * (level * total.weight + scale * total.moment),
            size * total.bought,
            size * (level * total.bought + scale * total.bought_moment),
            drawn.fill,
            drawn.fill + total.fills - 1,
        )
        return bars.roll_at(Bars._make(columns), np.arange(0, SLICES, MINUTE // SLICE))


def between(tape: Tape, start: int, end: int, limit: int) -> list[Trade]:
    """The first trades in [start, end], at most `limit`: looked for in ever longer stretches."""
    found: list[Trade] = []
    start, stretch = max(start, tape.start), MINUTE
    while start <= end and len(found) < limit:
        until = min(start + stretch, end + 1)
        found += tape.trades(start, until)
        start, stretch = until, min(stretch * 2, DAY)
    return found[:limit]


def latest(tape: Tape, at: int, limit: int) -> list[Trade]:
    """The last trades up to `at`, at most `limit`."""
    last = tape.before(at + 1)
    return [trade for trade in tape.following(max(last.id - limit + 1, 1), limit) if trade.time <= at] if last else []


def _counts_before(counts: Ints) -> Ints:
    """Running sum that starts with 0."""
    return np.cumsum(counts) - counts
