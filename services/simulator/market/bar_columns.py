"""Bars as columns, made from trades in one way for every timeframe and tape."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.simulator.market.shapes import Ints


class TapeTrade(NamedTuple):
    """An aggregate trade: the fills `first`…`last` of one taker order at one price. Whole ticks and lots."""

    id: int
    time: int
    price: int
    size: int
    first: int
    last: int
    sold: bool  # the taker sold: the buyer was the maker


class BarColumns(NamedTuple):
    """Columns of equal length, ascending, of bars with trades. Turnovers are ticks times lots."""

    time: Ints  # opening
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    quote: Ints
    bought: Ints
    bought_quote: Ints
    first: Ints  # trade ids
    last: Ints


EMPTY = BarColumns(*(np.empty(0, np.int64) for _ in BarColumns._fields))


def of_trades(trades: Sequence[TapeTrade]) -> BarColumns:
    """Return each trade as a bar of its own."""
    return of_rows(np.array(trades, np.int64)) if trades else EMPTY


def of_rows(rows: Ints) -> BarColumns:
    """Return trades, as rows in the order of TapeTrade, as bars of their own."""
    _, time, price, size, first, last, sold = rows.T
    bought = size * (1 - sold)
    return BarColumns(time, price, price, price, price, size, size * price, bought, bought * price, first, last)


def roll(bars: BarColumns, opens: Ints) -> BarColumns:
    """Merge the rows with an equal open time in `opens` (ascending, one per row)."""
    if not len(opens):
        return EMPTY
    heads = np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))
    return roll_at(bars._replace(time=opens), heads)


def roll_at(bars: BarColumns, heads: Ints) -> BarColumns:
    """Merge the rows from each in `heads` up to the next."""
    tails = np.append(heads[1:], len(bars.time)) - 1
    columns = (
        bars.time[heads],
        bars.open[heads],
        np.maximum.reduceat(bars.high, heads),
        np.minimum.reduceat(bars.low, heads),
        bars.close[tails],
        *(np.add.reduceat(column, heads) for column in bars[5:9]),
        bars.first[heads],
        bars.last[tails],
    )
    return BarColumns._make(columns)


def join(parts: Sequence[BarColumns]) -> BarColumns:
    """Concatenate parts."""
    return BarColumns(*map(np.concatenate, zip(*parts, strict=True))) if parts else EMPTY


def cut(bars: BarColumns, start: int, end: int) -> BarColumns:
    """Return the bars that open in [start, end)."""
    first, last = np.searchsorted(bars.time, (start, end))
    return BarColumns(*(column[first:last] for column in bars))


def fill(bars: BarColumns, opens: Ints, close: int | None) -> BarColumns:
    """Return a row for each of `opens`. A bar without trades is flat at the close before it (`close` for the first).

    Its trade ids are -1. Open times before the first trade are left out.
    """
    row = np.searchsorted(bars.time, opens, side="right") - 1
    if close is None:
        opens, row = opens[row >= 0], row[row >= 0]
    if not len(opens):
        return EMPTY
    closes = np.concatenate((bars.close, [close or 0]))[row]  # row -1 is the last: what was before
    traded = row >= 0
    traded[traded] = bars.time[row[traded]] == opens[traded]
    filled = [np.where(traded, np.append(column, 0)[row], closes) for column in bars[1:5]]
    filled += [np.where(traded, np.append(column, 0)[row], 0) for column in bars[5:9]]
    filled += [np.where(traded, np.append(column, 0)[row], -1) for column in bars[9:]]
    return BarColumns._make((opens, *filled))
