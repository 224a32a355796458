"""Order books about the quote: a level at each step of a grid, whose size is its own, and what changes with the quote.

The best levels are the quote's. All others follow from their price alone, so that a book at any time is known without
those before, and a change of the quote touches only the levels that it passes.
"""

from collections.abc import Iterable
from itertools import islice, pairwise
from typing import NamedTuple

from services.simulator.market.listings import ASSETS, SimulatedListing
from services.simulator.market.tape import Tape
from services.simulator.market.tape_quotes import TapeQuote, mix_bits, quote, quotes

MIN_STEPS_PER_PRICE = 100_000  # the grid's step is a price divided by that, and a tick at least
MAX_LEVEL_TRADES = 40  # times a typical trade: no level but the best ones is larger


class BookLevel(NamedTuple):
    """A price level: ticks and lots."""

    price: int
    size: int


class BookUpdate(NamedTuple):
    """Levels after the changes `first` to `last`. A size of 0 means that the level is gone."""

    first: int
    last: int
    bids: list[BookLevel]
    asks: list[BookLevel]


class OrderBook(NamedTuple):
    """All levels while `top` is the best quote. Its id is the time of that quote."""

    tape: Tape
    top: TapeQuote

    def bids(self, limit: int) -> list[BookLevel]:
        """Return the best `limit` bids, the highest first."""
        step, best = level_step(self.tape.listing), self.top.bid
        return [self.bid(price) for price in islice((best, *range((best - 1) // step * step, 0, -step)[:limit]), limit)]

    def asks(self, limit: int) -> list[BookLevel]:
        """Return the best `limit` asks, the lowest first."""
        step, best = level_step(self.tape.listing), self.top.ask
        first = best // step * step + step
        return [self.ask(price) for price in islice((best, *range(first, first + limit * step, step)), limit)]

    def bid(self, price: int) -> BookLevel:
        """Return the bid level at a price."""
        return BookLevel(price, self.top.bid_size if price == self.top.bid else self._size(price, price < self.top.bid))

    def ask(self, price: int) -> BookLevel:
        """Return the ask level at a price."""
        return BookLevel(price, self.top.ask_size if price == self.top.ask else self._size(price, price > self.top.ask))

    def _size(self, price: int, behind: bool) -> int:
        if not behind or price % level_step(self.tape.listing):
            return 0
        return 1 + mix_bits(price ^ self.tape.salt) % round(self.tape.listing.size * MAX_LEVEL_TRADES)


def order_book(tape: Tape, at: int) -> OrderBook | None:
    """Return the book at a time; None before the first trade."""
    top = quote(tape, at)
    return OrderBook(tape, top) if top else None


def update(tape: Tape, since: int, until: int) -> BookUpdate | None:
    """Return the levels that changed in (since, until]; None if none did.

    Levels that the quote passed and left again are among them, because a book may have been read in between.
    """
    changes, before = quotes(tape, since, until), quote(tape, since)
    if not changes:
        return None
    book, path = OrderBook(tape, changes[-1]), [before or changes[0], *changes]
    step = level_step(tape.listing)
    bids = {price for one, two in pairwise(path) for price in _touched_prices(one.bid, two.bid, step)}
    asks = {price for one, two in pairwise(path) for price in _touched_prices(one.ask, two.ask, step)}
    first = before.time + 1 if before else changes[0].time
    levels = list(map(book.bid, sorted(bids, reverse=True))), list(map(book.ask, sorted(asks)))
    return BookUpdate(first, changes[-1].time, *levels)


def change_times(tape: Tape, since: int, until: int, every: int) -> list[int]:
    """Return the ends, within (since, until], of the intervals of `every` ms in which the book changed."""
    start, end = since // every * every, until // every * every
    return sorted({-(-change.time // every) * every for change in quotes(tape, start, end)})


def level_step(listing: SimulatedListing) -> int:
    """Return the ticks between two levels, so that a few thousand levels span a few percent of the price."""
    base, counter = (ASSETS[asset].last or ASSETS[asset].first for asset in listing.instrument[:2])
    return max(1, int(base / counter / float(listing.tick) / MIN_STEPS_PER_PRICE))


def _touched_prices(one: int, two: int, step: int) -> Iterable[int]:
    """Return both prices and the levels between them."""
    low, high = sorted((one, two))
    return {low, high, *range(-(-low // step) * step, high, step)}
