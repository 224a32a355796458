"""Tape: a listing's trades at any time, generated from the seed without the trades before.

Time is cut into blocks, of an hour each. A block is one of a few dozen kinds: trades placed about the price that it
begins with, larger or smaller with that price. What each kind comes to is known, so that bars of years come without
drawing their trades, and are exact all the same.
"""

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from services.simulator.market import patterns
from services.simulator.market.bar_columns import EMPTY, BarColumns, TapeTrade
from services.simulator.market.listings import ASSETS, DAY, HOUR, MINUTE, SimulatedListing
from services.simulator.market.patterns import BlockPlan, TradeSums
from services.simulator.market.price_model import PriceModel, usual_move
from services.simulator.market.shapes import ENDS, SLICE_MS, VARIANTS, Ints, end, even, generator, shapes, variant

PATTERN_COUNT = 40
NOISE = 1.2e-4  # how far an exchange strays from the underlying
SWING = 0.8e-4  # how far trades stray within a slice
MIN_MOVE_TICKS = 64  # ticks that a price usually moves in a block, from which on a unit is not one tick but two
QUIETEST, BUSIEST = 5, 15  # a block's lots are its kind's, times a number between


class Tape(Protocol):
    """All trades of one listing."""

    listing: SimulatedListing
    start: int  # no trade is earlier
    salt: int  # makes its quotes its own
    block_ms: int  # the length of its longest bars

    def __hash__(self) -> int:
        """Return a hash: tapes are keys of caches."""

    def trades(self, start: int, end: int) -> list[TapeTrade]:
        """Return the trades in [start, end), by time."""

    def from_id(self, first: int, limit: int) -> list[TapeTrade]:
        """Return up to `limit` trades from the id `first` on."""

    def last_before(self, time: int) -> TapeTrade | None:
        """Return the last trade before `time`."""

    def bars(self, length: int, start: int, end: int) -> BarColumns:
        """Return the bars of a minute, or of a block, that open in [start, end)."""


class BlockRows(NamedTuple):
    """Consecutive blocks."""

    end: Ints
    variant: Ints
    level: Ints  # ticks
    scale: Ints  # ticks in a unit
    size: Ints  # multiplies lots
    fill: Ints  # the number of the first


class RandomTape:
    """Tape that is generated from the seed."""

    def __init__(self, listing: SimulatedListing, paths: PriceModel) -> None:
        self.listing, self._paths, self.start = listing, paths, listing.since * DAY
        self.block_ms = paths.block_ms(listing.instrument)
        self._name, self._first = f"{listing.exchange} {listing.symbol}", self.start // self.block_ms
        random = generator(paths.seed, listing.exchange, listing.symbol, "patterns")
        self.salt = int(random.integers(2**40))
        base, quote = (ASSETS[asset].first for asset in listing.instrument[:2])
        price, usual = base / quote / float(listing.tick), usual_move(listing.instrument, self.block_ms)
        self._reference = price if price * usual < MIN_MOVE_TICKS else price / 2  # ticks at which a unit is one tick
        self._usual = self._reference * usual  # units
        self._patterns = [patterns.draw(random, listing, self._reference * SWING) for _ in range(PATTERN_COUNT)]
        self._plan = BlockPlan(random, self._patterns, shapes(paths.seed, self.block_ms) * self._usual)
        self._trades, self._fills = (int(column[0, -1]) for column in (self._plan.trades, self._plan.fills))
        self._row = lru_cache(16)(lambda number: [int(column[0]) for column in self._rows(number, number + 1)])
        self._slice = lru_cache(64)(self._made)

    def trades(self, start: int, end: int) -> list[TapeTrade]:
        start = max(start, self.start)
        slices = range(start // SLICE_MS, -(-end // SLICE_MS))
        return [trade for number in slices for trade in self._slice(number) if start <= trade.time < end]

    def from_id(self, first: int, limit: int) -> list[TapeTrade]:
        trades: list[TapeTrade] = []
        for number in self._slices_from(max(first, 1)):
            trades += [trade for trade in self._slice(number) if trade.id >= first]
            if len(trades) >= limit:
                break
        return trades[:limit]

    def last_before(self, time: int) -> TapeTrade | None:
        if time <= self.start:
            return None
        recent = self.trades(time - time % SLICE_MS - SLICE_MS, time)  # no slice is without a trade
        return recent[-1] if recent else None

    def bars(self, length: int, start: int, end: int) -> BarColumns:
        first, last = max(self._first, start // self.block_ms), -(-end // self.block_ms)
        if first >= last:
            return EMPTY
        bars = self._bars(first, last, self.block_ms // length)
        rows = slice(*np.searchsorted(bars.time, (start, end)))
        return BarColumns._make(column[rows] for column in bars)

    @cached_property
    def _whole(self) -> TradeSums:
        """Sums of each kind of block, by end and variant."""
        ends, variants = (kind.ravel() for kind in np.indices((ENDS, VARIANTS)))
        return TradeSums(*(column.reshape(ENDS, VARIANTS, 1) for column in self._plan.sums(ends, variants, 1)))

    def _rows(self, first: int, last: int) -> BlockRows:
        """Return the blocks with numbers in [first, last), counted from 1970."""
        numbers = np.arange(first, last + 1)
        own = self._paths.drift(self._name, numbers * self.block_ms, HOUR)
        prices = np.exp(self._paths.log_rate(self.listing.instrument, numbers * self.block_ms) + NOISE * own)
        levels, numbers = np.rint(prices / float(self.listing.tick)).astype(np.int64), numbers[:-1]
        scale = np.maximum(1, np.rint(levels[:-1] / self._reference).astype(np.int64))
        return BlockRows(
            end(np.diff(levels) / (scale * self._usual)),
            variant(numbers),
            levels[:-1],
            scale,
            QUIETEST + even(numbers, self.salt, BUSIEST - QUIETEST + 1),
            1 + (numbers - self._first) * self._fills,
        )

    def _bars(self, first: int, last: int, parts: int) -> BarColumns:
        """Return the bars of the blocks with numbers in [first, last), in so many parts each."""
        ends, variants, *columns = self._rows(first, last)
        level, scale, size, fill = (column[:, None] for column in columns)
        if parts == 1:
            each = TradeSums(*(column[ends, variants] for column in self._whole))
        else:
            each = self._plan.sums(ends, variants, parts)
        fills = fill + np.cumsum(each.fills, axis=1)
        return BarColumns._make(
            column.ravel()
            for column in (
                np.arange(first * parts, last * parts) * (self.block_ms // parts),
                *(level + scale * offset for offset in (each.first, each.high, each.low, each.last)),
                size * each.weight,
                size * (level * each.weight + scale * each.moment),
                size * each.bought,
                size * (level * each.bought + scale * each.bought_moment),
                fills - each.fills,
                fills - 1,
            )
        )

    def _slices_from(self, first: int) -> Iterator[int]:
        """Yield the number of the slice that holds the trade `first`, and all later ones."""
        blocks, within = divmod(first - 1, self._trades)
        ends = self._plan.trades[int(variant(np.array([self._first + blocks]))[0])]
        number = (self._first + blocks) * len(ends) + int(np.searchsorted(ends, within, side="right"))
        while True:
            yield number
            number += 1

    def _made(self, number: int) -> tuple[TapeTrade, ...]:
        """Return the trades of the slice with this number, counted from 1970."""
        (block, offset), plan = divmod(number, self.block_ms // SLICE_MS), self._plan
        kind, variety, level, scale, size, fill = self._row(block)
        pattern = self._patterns[plan.pattern[variety, offset]]
        passed = (block - self._first) * self._trades + plan.trades[variety, offset]
        fills = fill + plan.fills[variety, offset] - pattern.fills[::-1].cumsum()[::-1]
        columns = (
            1 + passed + np.arange(-len(pattern.time), 0),
            number * SLICE_MS + pattern.time,
            level + scale * (plan.offset[kind, variety, offset] + pattern.offset),
            size * plan.size[variety, offset] * pattern.weight,
            fills,
            fills + pattern.fills - 1,
            pattern.sold.astype(bool),
        )
        return tuple(map(TapeTrade._make, zip(*(column.tolist() for column in columns), strict=True)))


def trades_since(tape: Tape, first: int, at: int, limit: int) -> list[TapeTrade]:
    """Return up to `limit` trades from the id `first` on; none if the first of them is later than `at`."""
    last = tape.last_before(at + 1)
    return tape.from_id(max(first, 1), limit) if last and first <= last.id else []


def trades_between(tape: Tape, start: int, end: int, limit: int) -> list[TapeTrade]:
    """Return the first trades in [start, end], at most `limit`."""
    trades: list[TapeTrade] = []
    start, stretch = max(start, tape.start), MINUTE
    while start <= end and len(trades) < limit:
        until = min(start + stretch, end + 1)
        trades += tape.trades(start, until)
        start, stretch = until, min(stretch * 2, DAY)
    return trades[:limit]


def latest_trades(tape: Tape, at: int, limit: int) -> list[TapeTrade]:
    """Return the last trades up to `at`, at most `limit`."""
    last = tape.last_before(at + 1)
    return [trade for trade in tape.from_id(max(last.id - limit + 1, 1), limit) if trade.time <= at] if last else []
