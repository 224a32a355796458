"""Partitions of the table `candles` on PostgreSQL: one for each year, and a default partition.

A candle of a year without a partition is stored in the default partition, and moves when the year's partition is
created. `migrate` creates partitions years ahead, so that there is normally nothing to move. Writers wait meanwhile.
"""

import time
from datetime import UTC, datetime

from sqlalchemy import Connection, inspect, text

FIRST_YEAR = 2017  # no supported exchange has older candles
YEARS_AHEAD = 5  # years created before they begin


def create_missing(connection: Connection, last: int | None = None) -> None:
    """Create the missing partitions up to the year `last`, by default some years ahead."""
    last = last or time.gmtime().tm_year + YEARS_AHEAD
    tables = inspect(connection).get_table_names()
    for year in range(FIRST_YEAR, last + 1):
        if _partition_name(year) not in tables:
            _create(connection, year)


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Return whether Alembic compares this object with our tables. Partitions are not compared."""
    return kind != "table" or not (name or "").startswith("candles_")


def _create(connection: Connection, year: int) -> None:
    """Create a partition as a table and attach it. Writers wait, readers only if they read the default partition."""
    name, since, until = _partition_name(year), _year_start_ms(year), _year_start_ms(year + 1)
    in_year = f"timestamp >= {since} AND timestamp < {until}"
    for statement in (
        # otherwise a concurrent insert could put into the default partition a row that belongs to the new one
        "LOCK TABLE candles IN SHARE ROW EXCLUSIVE MODE",
        # half of each page stays free for the rows' next versions, which then need no index update
        f"CREATE TABLE {name} (LIKE candles INCLUDING ALL) WITH (fillfactor = 50)",
        f"INSERT INTO {name} SELECT * FROM candles_rest WHERE {in_year}",  # noqa: S608  our own name and numbers
        f"DELETE FROM candles_rest WHERE {in_year}",  # noqa: S608
        f"ALTER TABLE candles ATTACH PARTITION {name} FOR VALUES FROM ({since}) TO ({until})",
    ):
        connection.execute(text(statement))


def _partition_name(year: int) -> str:
    return f"candles_{year}"


def _year_start_ms(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000
