"""Candles into PostgreSQL, fast: every digit travels as text, and PostgreSQL alone makes numbers of it.

Long runs without a hole are what history and imports bring. Those that are new, most likely, go in by COPY; the others
by a MERGE each, which looks through what is there once instead of for each row. All else goes by one INSERT ... ON
CONFLICT over arrays, which leaves alone what is the same.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import Column
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.tables import candles
from services.core.model import Candle
from services.core.timeframes import TIMEFRAMES
from services.core.times import FAR_FUTURE

Key = tuple[str, str, str]
BULK_THRESHOLD_CANDLES = 100  # candles of one series
COPY_CHUNK_ROWS = 50  # rows that are sent while the next are being written out
_COLUMNS = candles.columns.keys()
_KEY = [column.name for column in candles.primary_key]
_VALUES = [name for name in _COLUMNS if name not in (*_KEY, "created_at")]
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_QUOTES = str.maketrans({"\\": r"\\", '"': r"\""})


class CandleRun(NamedTuple):
    """Candles of one series, oldest first. `key`: its exchange, symbol and timeframe."""

    key: Key
    candles: list[Candle]

    @property
    def ends(self) -> tuple[int, int]:
        """Its first and its last opening."""
        return self.candles[0].bar.open_time, self.candles[-1].bar.open_time

    @property
    def is_bulk(self) -> bool:
        """Whether it goes alone: worth a statement, and without a hole, so that a MERGE looks through nothing else."""
        return len(self.candles) >= BULK_THRESHOLD_CANDLES and TIMEFRAMES[self.key[2]].count_between(*self.ends) == len(
            self.candles
        )


class SeenRange:
    """Between which openings long runs of each series have come: those beyond them are new, most likely."""

    def __init__(self) -> None:
        self._ends: dict[Key, tuple[int, int]] = {}

    def extend(self, run: CandleRun) -> bool:
        """Whether it lies beyond all that came before it. The frontier moves there: the same run is new only once."""
        low, high = self._ends.get(run.key, (FAR_FUTURE, -FAR_FUTURE))
        since, until = run.ends
        self._ends[run.key] = min(low, since), max(high, until)
        return until < low or since > high


def _column_list(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in names)


def _unnested_columns(columns: Iterable[Column[Any]]) -> str:
    """A SELECT's columns, from arrays that come as one text each: cheaper to write than arrays of values."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = [(column.name, column.type.compile(dialect)) for column in columns]
    return ", ".join(f'unnest(${number}::text::{kind}[]) AS "{name}"' for number, (name, kind) in enumerate(types, 1))


_UPSERT = f"""
INSERT INTO candles ({_column_list(_COLUMNS)})
SELECT {_unnested_columns(list(candles.columns)[:-1])}, ${len(_COLUMNS)}::bigint
ON CONFLICT ({_column_list(_KEY)}) DO UPDATE SET {", ".join(f'"{name}" = excluded."{name}"' for name in _VALUES)}
WHERE ({_column_list(_VALUES, "candles.")}) IS DISTINCT FROM ({_column_list(_VALUES, "excluded.")})
"""  # noqa: S608  our own names

# From $12 on: the series, its ends, and now. The ends let PostgreSQL look only into the years between them.
_MERGE = f"""
MERGE INTO candles USING (SELECT {_unnested_columns(list(candles.columns)[3:-1])}) AS new
ON candles.exchange = $12 AND candles.symbol = $13 AND candles.timeframe = $14
    AND candles.timestamp BETWEEN $15 AND $16 AND candles.timestamp = new.timestamp
WHEN MATCHED THEN UPDATE SET {", ".join(f'"{name}" = new."{name}"' for name in _VALUES)}
WHEN NOT MATCHED THEN INSERT ({_column_list(_COLUMNS)})
  VALUES ($12, $13, $14, {_column_list(_COLUMNS[3:-1], "new.")}, $17)
"""  # noqa: S608


async def save(connection: AsyncConnection, runs: Sequence[CandleRun], seen: SeenRange, now: int) -> None:
    """Runs of different series in the key's order, within the transaction of `connection`; `now` is when.

    The caller holds `locks(runs)` for the time of that transaction. Past SQLAlchemy, whose share would be as large as
    the database's. Raises asyncpg.UniqueViolationError when a candle was kept already that was taken to be new: then
    nothing is saved, and the next time it is known.
    """
    driver: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection
    new, known, rest = list[CandleRun](), list[CandleRun](), list[CandleRun]()
    for run in runs:
        (rest if not run.is_bulk else new if seen.extend(run) else known).append(run)
    if new:
        await driver.copy_to_table("candles", source=_copy_chunks(new, now), columns=_COLUMNS)
    await _merge_runs(driver, known, now)
    if rest:
        await driver.execute(
            _UPSERT, *_key_arrays(rest), *_value_arrays(chain.from_iterable(run.candles for run in rest)), now
        )


async def _merge_runs(driver: asyncpg.Connection, runs: Iterable[CandleRun], now: int) -> None:
    """One after the other; while PostgreSQL works on one the next is written."""
    working: asyncio.Task[str] | None = None
    try:
        for run in runs:
            values = _value_arrays(run.candles)
            if working:
                await working
            working = asyncio.create_task(driver.execute(_MERGE, *values, *run.key, *run.ends, now))
            await asyncio.sleep(0)  # it is sent
        if working:
            await working
    finally:
        if working and not working.done():
            working.cancel()
            await asyncio.wait([working])


def advisory_locks(runs: Sequence[CandleRun]) -> list[int]:
    """Numbers of advisory locks, in the order in which they are taken: one for each long run's series.

    What is copied goes before what is merged, and so not in the key's order: without them two writers could wait for
    each other.
    """
    digests = (blake2b(" ".join(run.key).encode(), digest_size=8) for run in runs if run.is_bulk)
    return [int.from_bytes(each.digest(), "big", signed=True) for each in digests]


async def _copy_chunks(runs: Iterable[CandleRun], now: int) -> AsyncIterator[bytes]:
    """COPY's text format, in pieces, so that PostgreSQL works on one while the next is written."""
    for key, rows in runs:
        start = "\t".join(word.translate(_ESCAPES) for word in key)
        for place in range(0, len(rows), COPY_CHUNK_ROWS):
            yield "".join(
                [f"{start}\t{_copy_line(row)}\t{now}\n" for row in rows[place : place + COPY_CHUNK_ROWS]]
            ).encode()
            await asyncio.sleep(0)  # uvloop sends when the loop comes round, and not before


def _copy_line(row: Candle) -> str:
    b = row.bar
    prices = f"{b.open!s}\t{b.high!s}\t{b.low!s}\t{b.close!s}\t{b.volume!s}\t{b.quote_volume!s}"
    return f"{b.open_time}\t{prices}\t{b.trades}\t{row.closed:d}\t{row.source!s}\t{row.revision}"


def _key_arrays(runs: Sequence[CandleRun]) -> list[str]:
    """The first three columns as arrays, the way PostgreSQL writes them."""
    words = ([word for run in runs for word in [_quoted(run.key[place])] * len(run.candles)] for place in range(3))
    return [_array(column) for column in words]


def _value_arrays(candles: Iterable[Candle]) -> list[str]:
    """The others but the last."""
    rows = list(candles)
    bars = [row.bar for row in rows]
    columns = (
        [str(bar.open_time) for bar in bars],
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
    return [_array(column) for column in columns]


def _array(words: Iterable[str]) -> str:
    return "{" + ",".join(words) + "}"


@lru_cache(10_000)
def _quoted(word: str) -> str:
    return '"' + word.translate(_QUOTES) + '"'
