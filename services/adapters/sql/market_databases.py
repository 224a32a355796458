"""Each market has a database of its own: a schema on PostgreSQL, a file on SQLite; and each says which one it holds.

Versions before 0006 kept both in the same place. What they kept is simulated if a rate in it says so.
"""

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, schema, text
from sqlalchemy.engine import make_url

from services.adapters.sql.engine import make_engine, translate_errors
from services.adapters.sql.tables import candles, market, metadata, rates
from services.core.errors import AccessRefused
from services.core.markets import LIVE, SIMULATED, Market

SIMULATED_PATTERN = '%"simulated":true%'  # in a rate's JSON
log = logging.getLogger("kurs.store")


def market_url(url: str, market: Market) -> str:
    """The URL with the market's schema in it. A file of SQLite is its own address."""
    if market == LIVE or not url.startswith("postgresql"):
        return url
    return make_url(url).update_query_dict({"schema": market}).render_as_string(hide_password=False)


async def stored_market(url: str) -> Market | None:
    """The market that something is kept of at that address. A file of SQLite that is not there is not made."""
    engine = make_engine(url)
    named = engine.url.database if engine.dialect.name == "sqlite" else None
    if named and not Path(named).exists():  # noqa: ASYNC240  before anything else runs
        return None
    try:
        async with translate_errors(engine), engine.connect() as connection:
            return await connection.run_sync(_stored_market)
    finally:
        await engine.dispose()


def record_market(connection: Connection, wanted: Market) -> None:
    """Write down which market the database holds, if it does not say yet. Raises Refused when it is the other one."""
    if recorded_market(connection) is None:
        connection.execute(market.insert().values(name=_stored_market(connection) or wanted))
    check_market(connection, wanted)


def check_market(connection: Connection, wanted: Market) -> None:
    """Raises Refused when the database holds the other market."""
    if (name := recorded_market(connection)) not in (None, wanted):
        raise AccessRefused(
            f"{database_title(connection)} holds the {name} market, and this process is {wanted}: "
            f"name another database in DATABASE_URL, or set KURS_MARKET={name}"
        )


def recorded_market(connection: Connection) -> Market | None:
    """Which market the database says it holds."""
    name: Market | None = connection.execute(market.select()).scalar()
    return name


def database_title(connection: Connection) -> str:
    """The database, for a person to read."""
    name = str(connection.engine.url.database)
    in_schema = f" (schema {connection.dialect.default_schema_name})"
    return name + in_schema if connection.dialect.name == "postgresql" else name


def move_simulated_tables(connection: Connection) -> None:
    """Move what an older version simulated in PostgreSQL's first schema into that of the simulated market."""
    tables = inspect(connection).get_table_names()
    if market.name in tables or rates.name not in tables or not is_simulated(connection):
        return
    make_schema(connection, SIMULATED)
    if inspect(connection).get_table_names(SIMULATED):
        raise AccessRefused(
            f"{database_title(connection)} holds a simulated market, and there is one in {SIMULATED} already: drop one"
        )
    log.warning("%s holds a simulated market: it moves to the schema %s", database_title(connection), SIMULATED)
    ours = {*metadata.tables, "alembic_version"}
    for name in tables:  # the partitions of the candles too: they do not follow their parent
        if name in ours or name.startswith(f"{candles.name}_"):
            connection.execute(text(f"ALTER TABLE {name} SET SCHEMA {SIMULATED}"))


def make_schema(connection: Connection, name: str) -> None:
    """Have a schema of that name. The right to make one is needed only where it is not there."""
    if name not in inspect(connection).get_schema_names():
        connection.execute(schema.CreateSchema(name))


def is_simulated(connection: Connection) -> bool:
    """Whether a rate says that it was."""
    return connection.execute(rates.select().where(rates.c.body.like(SIMULATED_PATTERN)).limit(1)).first() is not None


def _stored_market(connection: Connection) -> Market | None:
    there = inspect(connection).get_table_names()
    tables = (table for table in (candles, rates) if table.name in there)
    if all(connection.execute(table.select().limit(1)).first() is None for table in tables):
        return None
    if market.name in there and (name := recorded_market(connection)):
        return name
    return SIMULATED if is_simulated(connection) else LIVE
