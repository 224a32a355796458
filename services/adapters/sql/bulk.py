"""Bulk writes of candles to PostgreSQL. Every value is sent as text, which only PostgreSQL converts to numbers.

The saved candles are split into runs, each of one series in order. `choose_statement` decides for each run:

| run                                                 | statement                        | because                 |
| --------------------------------------------------- | -------------------------------- | ----------------------- |
| under 100 candles, or with a gap                    | one INSERT … ON CONFLICT for all | a statement each costs  |
| longer, without a gap, outside the `SeenRange`      | one COPY for all                 | most likely all are new |
| longer, without a gap, overlapping the `SeenRange`  | a MERGE each                     | one scan of the range   |

A COPY fails if one candle exists. `retry_copy` then saves again: its range is seen by now, so that it is merged. Each
statement leaves equal rows alone. SQLAlchemy is not used, because it would cost as much time as the database.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum, auto
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
COPY_CHUNK_ROWS = 50  # PostgreSQL works on one chunk while the next is formatted
MAX_COPY_RETRIES = 3  # the second attempt merges; another writer may insert meanwhile
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
        """Return its first and its last open time."""
        return self.candles[0].bar.open_time, self.candles[-1].bar.open_time

    @property
    def is_bulk(self) -> bool:
        """Return whether it gets its own statement: it is long, and without a gap, so that a MERGE scans only it."""
        count = len(self.candles)
        return count >= BULK_THRESHOLD_CANDLES and TIMEFRAMES[self.key[2]].count_between(*self.ends) == count


class SeenRange:
    """The range of open times of each series that bulk runs have had. A run outside it is most likely new."""

    def __init__(self) -> None:
        self._ends: dict[Key, tuple[int, int]] = {}

    def extend(self, run: CandleRun) -> bool:
        """Extend the range by a run. Return whether the run lay outside, which it does only once."""
        low, high = self._ends.get(run.key, (FAR_FUTURE, -FAR_FUTURE))
        since, until = run.ends
        self._ends[run.key] = min(low, since), max(high, until)
        return until < low or since > high


class Statement(Enum):
    """The ways to write a run."""

    UPSERT = auto()
    COPY = auto()
    MERGE = auto()


def choose_statement(run: CandleRun, seen: SeenRange) -> Statement:
    """Return how a run is written, as in the table above, and extend the seen range."""
    if not run.is_bulk:
        return Statement.UPSERT
    return Statement.COPY if seen.extend(run) else Statement.MERGE


async def retry_copy(save: Callable[[], Awaitable[None]]) -> None:
    """Run `save`, which is a whole transaction, again after a COPY met a candle that existed."""
    for _ in range(MAX_COPY_RETRIES):
        with suppress(asyncpg.UniqueViolationError):
            return await save()
    return await save()


def _column_list(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in names)


def _unnested_columns(columns: Iterable[Column[Any]]) -> str:
    """Return a SELECT's columns from arrays, each sent as one text, which is cheaper to encode than many values."""
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
    """Save runs of different series in the key's order, within the transaction of `connection`; `now` is in ms.

    The caller holds `advisory_locks(runs)` during that transaction. Raises asyncpg.UniqueViolationError, which
    `retry_copy` handles.
    """
    driver: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection
    runs_by_statement = defaultdict[Statement, list[CandleRun]](list)
    for run in runs:
        runs_by_statement[choose_statement(run, seen)].append(run)
    if copied := runs_by_statement[Statement.COPY]:
        await driver.copy_to_table("candles", source=_copy_chunks(copied, now), columns=_COLUMNS)
    await _merge_runs(driver, runs_by_statement[Statement.MERGE], now)
    if upserted := runs_by_statement[Statement.UPSERT]:
        values = _value_arrays(chain.from_iterable(run.candles for run in upserted))
        await driver.execute(_UPSERT, *_key_arrays(upserted), *values, now)


async def _merge_runs(driver: asyncpg.Connection, runs: Iterable[CandleRun], now: int) -> None:
    """Merge one run after the other. While PostgreSQL works on one, the next is formatted."""
    working: asyncio.Task[str] | None = None
    try:
        for run in runs:
            values = _value_arrays(run.candles)
            if working:
                await working
            working = asyncio.create_task(driver.execute(_MERGE, *values, *run.key, *run.ends, now))
            await asyncio.sleep(0)  # sends it
        if working:
            await working
    finally:
        if working and not working.done():
            working.cancel()
            await asyncio.wait([working])


def advisory_locks(runs: Sequence[CandleRun]) -> list[int]:
    """Return the ids of advisory locks, one for each bulk run's series, in the order in which to take them.

    COPY precedes MERGE, and so rows are not locked in the key's order. Without these locks two writers could deadlock.
    """
    digests = (blake2b(" ".join(run.key).encode(), digest_size=8) for run in runs if run.is_bulk)
    return [int.from_bytes(each.digest(), "big", signed=True) for each in digests]


async def _copy_chunks(runs: Iterable[CandleRun], now: int) -> AsyncIterator[bytes]:
    """Yield COPY's text format in chunks, so that PostgreSQL works on one while the next is formatted."""
    for key, rows in runs:
        start = "\t".join(value.translate(_ESCAPES) for value in key)
        for index in range(0, len(rows), COPY_CHUNK_ROWS):
            yield "".join(
                [f"{start}\t{_copy_line(row)}\t{now}\n" for row in rows[index : index + COPY_CHUNK_ROWS]]
            ).encode()
            await asyncio.sleep(0)  # uvloop sends only when the loop runs


def _copy_line(row: Candle) -> str:
    b = row.bar
    prices = f"{b.open!s}\t{b.high!s}\t{b.low!s}\t{b.close!s}\t{b.volume!s}\t{b.quote_volume!s}"
    return f"{b.open_time}\t{prices}\t{b.trades}\t{row.closed:d}\t{row.source!s}\t{row.revision}"


def _key_arrays(runs: Sequence[CandleRun]) -> list[str]:
    """Return the first three columns as PostgreSQL's text of arrays."""
    columns = ([value for run in runs for value in [_quoted(run.key[index])] * len(run.candles)] for index in range(3))
    return [_array(column) for column in columns]


def _value_arrays(candles: Iterable[Candle]) -> list[str]:
    """Return the other columns, except the last, as PostgreSQL's text of arrays."""
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


def _array(columns: Iterable[str]) -> str:
    return "{" + ",".join(columns) + "}"


@lru_cache(10_000)
def _quoted(value: str) -> str:
    return '"' + value.translate(_QUOTES) + '"'
