"""Candles into PostgreSQL, fast: every digit travels as text, and PostgreSQL alone makes numbers of it.

A long run without a hole, which is what history and imports bring, goes in by COPY, and what is there of it is taken
out before: half the price of an update, whose every row is looked for by itself. All else goes by one INSERT ... ON
CONFLICT over arrays, which leaves alone what is the same.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.tables import candles
from services.core.model import Candle
from services.core.timeframes import TIMEFRAMES

Key = tuple[str, str, str]
LONG = 100  # candles of one series
FOREVER = 2**62
CHUNK = 50  # rows that are sent while the next are being written out
_COLUMNS = candles.columns.keys()
_KEY = [column.name for column in candles.primary_key]
_VALUES = [name for name in _COLUMNS if name not in (*_KEY, "created_at")]
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_QUOTES = str.maketrans({"\\": r"\\", '"': r"\""})


class Run(NamedTuple):
    """Candles of one series, oldest first. `key`: its exchange, symbol and timeframe."""

    key: Key
    candles: list[Candle]

    @property
    def ends(self) -> tuple[int, int]:
        """Its first and its last opening."""
        return self.candles[0].bar.timestamp, self.candles[-1].bar.timestamp

    @property
    def long(self) -> bool:
        """Whether it is worth a COPY, and nothing else can be kept between its ends."""
        return len(self.candles) >= LONG and TIMEFRAMES[self.key[2]].expected(*self.ends) == len(self.candles)


class Frontier:
    """Between which openings long runs of each series have come: those beyond them are new, most likely."""

    def __init__(self) -> None:
        self._ends: dict[Key, tuple[int, int]] = {}

    def passed(self, run: Run) -> bool:
        """Whether it lies beyond all that came before it. The frontier moves there: the same run is new only once."""
        low, high = self._ends.get(run.key, (FOREVER, -FOREVER))
        since, until = run.ends
        self._ends[run.key] = min(low, since), max(high, until)
        return until < low or since > high


def _listed(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in names)


def _arrays() -> str:
    """A SELECT's columns, from arrays that come as one text each: cheaper to write than arrays of values."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = [column.type.compile(dialect) for column in candles.columns][:-1]
    return ", ".join(f"unnest(${number}::text::{kind}[])" for number, kind in enumerate(types, 1))


_UPSERT = f"""
INSERT INTO candles ({_listed(_COLUMNS)}) SELECT {_arrays()}, ${len(_COLUMNS)}::bigint
ON CONFLICT ({_listed(_KEY)}) DO UPDATE SET {", ".join(f'"{name}" = excluded."{name}"' for name in _VALUES)}
WHERE ({_listed(_VALUES, "candles.")}) IS DISTINCT FROM ({_listed(_VALUES, "excluded.")})
"""  # noqa: S608  our own names

# of each run by itself: PostgreSQL then looks only into the years it lies in
_TAKEN = """
DELETE FROM candles WHERE exchange = $1 AND symbol = $2 AND timeframe = $3 AND timestamp BETWEEN $4 AND $5
RETURNING timestamp, created_at
"""


async def save(connection: AsyncConnection, runs: Sequence[Run], frontier: Frontier, now: int) -> None:
    """Runs of different series in the key's order, within the transaction of `connection`; `now` is when.

    For the time of that transaction the caller holds `locks(runs)`: what is taken out must not be put in by another.
    Past SQLAlchemy, whose share would be as large as the database's. Raises asyncpg.UniqueViolationError when a candle
    was kept already that was taken to be new: then nothing is saved, and the next time it is known.
    """
    driver: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection
    if long := [run for run in runs if run.long]:
        made = [{} if frontier.passed(run) else await _taken_out(driver, run) for run in long]
        await driver.copy_to_table("candles", source=_lines(zip(long, made, strict=True), now), columns=_COLUMNS)
    if rest := [run for run in runs if not run.long]:
        await driver.execute(_UPSERT, *_written(rest), now)


def locks(runs: Sequence[Run]) -> list[int]:
    """Numbers of advisory locks, in the order in which they are taken: one for each long run's series."""
    digests = (blake2b(" ".join(run.key).encode(), digest_size=8) for run in runs if run.long)
    return [int.from_bytes(each.digest(), "big", signed=True) for each in digests]


async def _taken_out(driver: asyncpg.Connection, run: Run) -> dict[int, int]:
    """When each candle that was there was first kept."""
    return dict(await driver.fetch(_TAKEN, *run.key, *run.ends))


async def _lines(runs: Iterable[tuple[Run, dict[int, int]]], now: int) -> AsyncIterator[bytes]:
    """COPY's text format, in pieces, so that PostgreSQL works on one while the next is written."""
    for (key, rows), made in runs:
        start = "\t".join(word.translate(_ESCAPES) for word in key)
        for place in range(0, len(rows), CHUNK):
            chunk = rows[place : place + CHUNK]
            yield "".join([f"{start}\t{_line(row)}\t{made.get(row.bar.timestamp, now)}\n" for row in chunk]).encode()
            await asyncio.sleep(0)  # uvloop sends when the loop comes round, and not before


def _line(row: Candle) -> str:
    b = row.bar
    prices = f"{b.open!s}\t{b.high!s}\t{b.low!s}\t{b.close!s}\t{b.volume!s}\t{b.quote_volume!s}"
    return f"{b.timestamp}\t{prices}\t{b.trades}\t{row.closed:d}\t{row.source!s}\t{row.revision}"


def _written(runs: Sequence[Run]) -> tuple[str, ...]:
    """All columns but the last as arrays, the way PostgreSQL writes them."""
    rows = list(chain.from_iterable(run.candles for run in runs))
    bars = [row.bar for row in rows]
    keys = [[word for run in runs for word in [_quoted(run.key[place])] * len(run.candles)] for place in range(3)]
    columns = (
        *keys,
        [str(bar.timestamp) for bar in bars],
        [str(bar.open) for bar in bars],
        [str(bar.high) for bar in bars],
        [str(bar.low) for bar in bars],
        [str(bar.close) for bar in bars],
        [str(bar.volume) for bar in bars],
        [str(bar.quote_volume) for bar in bars],
        [str(bar.trades) for bar in bars],
        [f"{row.closed:d}" for row in rows],
        [row.source.value for row in rows],
        [str(row.revision) for row in rows],
    )
    return tuple("{" + ",".join(column) + "}" for column in columns)


@lru_cache(10_000)
def _quoted(word: str) -> str:
    return '"' + word.translate(_QUOTES) + '"'
