"""Candles into PostgreSQL, fast: every digit travels as text, and PostgreSQL alone makes numbers of it.

A long run of a series of which nothing is kept yet, which is what history and imports bring, goes by COPY; all else by
one INSERT ... ON CONFLICT over arrays, which leaves alone what is the same.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.tables import candles
from services.core.model import Candle


class Run(NamedTuple):
    """Candles of one series, oldest first. `key`: its exchange, symbol and timeframe."""

    key: tuple[str, str, str]
    candles: list[Candle]


LONG = 100  # candles of one series that are worth the questions before a COPY
CHUNK = 200  # rows that are sent while the next are being written out
_COLUMNS = candles.columns.keys()
_KEY = [column.name for column in candles.primary_key]
_VALUES = [name for name in _COLUMNS if name not in _KEY]
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_QUOTES = str.maketrans({"\\": r"\\", '"': r"\""})


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
WHERE ({_listed(_VALUES[:-1], "candles.")}) IS DISTINCT FROM ({_listed(_VALUES[:-1], "excluded.")})
"""  # noqa: S608  our own names

# asked for each run by itself: PostgreSQL then looks only into the years it lies in
_FRESH = """
SELECT NOT EXISTS (
    SELECT FROM candles
    WHERE exchange = $1 AND symbol = $2 AND timeframe = $3 AND timestamp BETWEEN $4 AND $5
)
"""


async def save(connection: AsyncConnection, runs: Sequence[Run], now: int) -> None:
    """Runs of different series in the key's order, within the transaction of `connection`; `now` is when.

    Raises asyncpg.UniqueViolationError when another writer was faster with a candle that nobody had: then nothing is
    saved, and the next time it is known.
    """
    fresh = await _fresh(connection, [run for run in runs if len(run.candles) >= LONG])
    if fresh:
        driver: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection
        await driver.copy_to_table("candles", source=_lines(fresh, now), columns=_COLUMNS)
    done = {run.key for run in fresh}
    if rest := [run for run in runs if run.key not in done]:
        await connection.exec_driver_sql(_UPSERT, (*_written(rest), now))


async def _fresh(connection: AsyncConnection, runs: Sequence[Run]) -> list[Run]:
    """The runs of which nothing is kept. Asking begins the transaction, of which COPY must be a part."""
    fresh = []
    for run in runs:
        ends = run.candles[0].bar.timestamp, run.candles[-1].bar.timestamp
        if (await connection.exec_driver_sql(_FRESH, (*run.key, *ends))).scalar_one():
            fresh.append(run)
    return fresh


async def _lines(runs: Sequence[Run], now: int) -> AsyncIterator[bytes]:
    """COPY's text format, in pieces, so that PostgreSQL works on one while the next is written."""
    for key, rows in runs:
        start = "\t".join(word.translate(_ESCAPES) for word in key)
        for place in range(0, len(rows), CHUNK):
            yield "".join([f"{start}\t{_line(row)}\t{now}\n" for row in rows[place : place + CHUNK]]).encode()


def _line(row: Candle) -> str:
    b = row.bar
    prices = f"{b.open!s}\t{b.high!s}\t{b.low!s}\t{b.close!s}\t{b.volume!s}\t{b.quote_volume!s}"
    return f"{b.timestamp}\t{prices}\t{b.trades}\t{row.closed}\t{row.source.value}\t{row.revision}"


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
        [str(row.closed) for row in rows],
        [row.source.value for row in rows],
        [str(row.revision) for row in rows],
    )
    return tuple("{" + ",".join(column) + "}" for column in columns)


@lru_cache(10_000)
def _quoted(word: str) -> str:
    return '"' + word.translate(_QUOTES) + '"'
