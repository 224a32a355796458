"""The years of the candles on PostgreSQL: one partition each, and one for the rest.

A candle of a year that has none yet is kept with the rest, and moves when its year gets one. That happens at every
`migrate`, and ahead of time, so that there is nothing to move; whoever writes meanwhile waits and then goes on.
"""

import time
from datetime import UTC, datetime

from sqlalchemy import Connection, inspect, text

FIRST_YEAR = 2017  # before it no exchange that Kurs knows had candles
YEARS_AHEAD = 5  # years that are made before they begin


def create_missing(connection: Connection, last: int | None = None) -> None:
    """Make the years up to `last` that are not there; without it, enough for some years to come."""
    last = last or time.gmtime().tm_year + YEARS_AHEAD
    there = inspect(connection).get_table_names()
    for year in range(FIRST_YEAR, last + 1):
        if _partition_name(year) not in there:
            _create(connection, year)


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Whether Alembic is to compare what has this name with our tables: a partition is no table of its own."""
    return kind != "table" or not (name or "").startswith("candles_")


def _create(connection: Connection, year: int) -> None:
    """Made beside the table and then attached: writers wait for the move, readers only where they read the rest."""
    name, since, until = _partition_name(year), _year_start_ms(year), _year_start_ms(year + 1)
    mine = f"timestamp >= {since} AND timestamp < {until}"
    for statement in (
        # else a writer that is under way would bring the rest a candle that is no longer its
        "LOCK TABLE candles IN SHARE ROW EXCLUSIVE MODE",
        # half of each page stays free for the rows' next versions: PostgreSQL then need not change the index
        f"CREATE TABLE {name} (LIKE candles INCLUDING ALL) WITH (fillfactor = 50)",
        f"INSERT INTO {name} SELECT * FROM candles_rest WHERE {mine}",  # noqa: S608  our own name, and numbers
        f"DELETE FROM candles_rest WHERE {mine}",  # noqa: S608
        f"ALTER TABLE candles ATTACH PARTITION {name} FOR VALUES FROM ({since}) TO ({until})",
    ):
        connection.execute(text(statement))


def _partition_name(year: int) -> str:
    return f"candles_{year}"


def _year_start_ms(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000
