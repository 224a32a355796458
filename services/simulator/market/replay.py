"""Replay of a file of real trades in place of one symbol's random tape, at any speed."""

import csv
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from services.core.errors import Misconfigured
from services.simulator.market import bar_columns
from services.simulator.market.bar_columns import BarColumns, TapeTrade
from services.simulator.market.listings import BINANCE, MINUTE, SimulatedListing
from services.simulator.market.price_model import ReplayLead
from services.simulator.market.shapes import Ints

MIN_COLUMNS = 7  # id, price, quantity, first id, last id, time, buyer was maker; an eighth is allowed
MIN_MICROSECONDS = 10**14  # a time above it is in µs


class ReplayFile(NamedTuple):
    """The trades of a file."""

    listing: SimulatedListing
    rows: Ints  # a row per trade, in the order of TapeTrade


class ReplayTape:
    """Tape of a file's trades, from `start` on. It is empty before the first and after the last."""

    block_ms = MINUTE

    def __init__(self, file: ReplayFile, start: int, speed: float) -> None:
        self.listing, self.salt = file.listing, 0
        rows, self._rows = file.rows, file.rows.copy()
        self._rows[:, 1] = start + ((rows[:, 1] - rows[0, 1]) / speed).astype(np.int64)
        self._ids, self._times = self._rows[:, 0], self._rows[:, 1]
        self.start = int(self._times[0])

    def trades(self, start: int, end: int) -> list[TapeTrade]:
        first, last = np.searchsorted(self._times, (start, end))
        return self._made(int(first), int(last))

    def from_id(self, first: int, limit: int) -> list[TapeTrade]:
        row = int(np.searchsorted(self._ids, first))
        return self._made(row, row + limit)

    def last_before(self, time: int) -> TapeTrade | None:
        row = int(np.searchsorted(self._times, time))
        return self._made(row - 1, row)[0] if row else None

    def price_lead(self) -> ReplayLead:
        """Return the prices, which the other exchanges follow."""
        tick = float(self.listing.tick)
        return ReplayLead(self.listing.instrument.quote, self._times, np.log(self._rows[:, 2] * tick))

    def _made(self, first: int, last: int) -> list[TapeTrade]:
        return [TapeTrade._make((*row[:6], bool(row[6]))) for row in self._rows[first:last].tolist()]

    def bars(self, length: int, start: int, end: int) -> BarColumns:
        first, last = np.searchsorted(self._times, (start, end))
        trades = bar_columns.of_rows(self._rows[first:last])
        return bar_columns.roll(trades, trades.time // length * length)


@lru_cache(1)
def read_replay(path: Path) -> ReplayFile:
    """Read Binance's public aggTrades: `BTCUSDT-aggTrades-2026-01.csv`, with or without a header, in ms or µs.

    Raises Misconfigured.
    """
    symbol = path.name.partition("-")[0].partition(".")[0].upper()
    if symbol not in BINANCE:
        raise Misconfigured(
            f"KURS_SIMULATOR_REPLAY: the name of {path.name} must begin with one of {', '.join(BINANCE)}"
        )
    listing = BINANCE[symbol]
    try:
        with path.open(newline="") as file:
            rows = np.array(list(_rows(listing, file)), np.int64)
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"KURS_SIMULATOR_REPLAY: {error}") from error
    if not len(rows) or (np.diff(rows[:, 0]) <= 0).any() or (np.diff(rows[:, 1]) < 0).any():
        raise Misconfigured(f"KURS_SIMULATOR_REPLAY: {path.name} must hold trades with ids and times that ascend")
    return ReplayFile(listing, rows)


def _rows(listing: SimulatedListing, lines: Iterator[str]) -> Iterator[list[int]]:
    for number, row in enumerate(csv.reader(lines), 1):
        if number == 1 and row and not row[0].strip().isdigit():
            continue  # the header
        try:
            yield _row(listing, row)
        except (ValueError, InvalidOperation) as error:
            raise Misconfigured(f"KURS_SIMULATOR_REPLAY: line {number}: {error}") from error


def _row(listing: SimulatedListing, row: list[str]) -> list[int]:
    """Return a line in the order of TapeTrade."""
    if len(row) < MIN_COLUMNS:
        raise ValueError(f"{len(row)} columns, not {MIN_COLUMNS}")
    number, price, quantity, first, last, time, sold = row[:MIN_COLUMNS]
    ms = int(time) // 1000 if int(time) > MIN_MICROSECONDS else int(time)
    steps = _steps(price, listing.tick, "price"), _steps(quantity, listing.lot, "quantity")
    return [int(number), ms, *steps, int(first), int(last), sold.strip().lower() in ("true", "1")]


def _steps(text: str, step: Decimal, name: str) -> int:
    count = Decimal(text) / step
    if count != count.to_integral_value() or count <= 0:
        raise ValueError(f"{name} {text} is no multiple of {step}")
    return int(count)
