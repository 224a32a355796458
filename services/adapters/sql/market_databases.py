"""The database of each market: a schema on PostgreSQL, a file on SQLite. The table `market` has its name.

Versions before migration 0006 stored both markets in one place. Their data is simulated if a stored rate is.
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
log = logging.getLogger(__name__)


def market_url(url: str, market: Market) -> str:
    """Return the URL with the market's schema. A SQLite file has no schemas, and its URL stays."""
    if market == LIVE or not url.startswith("postgresql"):
        return url
    return make_url(url).update_query_dict({"schema": market}).render_as_string(hide_password=False)


async def stored_market(url: str) -> Market | None:
    """Return the market of the data at that URL, None without data. A missing SQLite file is not created."""
    engine = make_engine(url)
    named = engine.url.database if engine.dialect.name == "sqlite" else None
    if named and not Path(named).exists():  # noqa: ASYNC240  no other task runs yet
        return None
    try:
        async with translate_errors(engine), engine.connect() as connection:
            return await connection.run_sync(_stored_market)
    finally:
        await engine.dispose()


def record_market(connection: Connection, wanted: Market) -> None:
    """Record the database's market, if it has none yet. Raises Refused when it is the other one."""
    if recorded_market(connection) is None:
        connection.execute(market.insert().values(name=_stored_market(connection) or wanted))
    check_market(connection, wanted)


def check_market(connection: Connection, wanted: Market) -> None:
    """Raise Refused if the database holds the other market."""
    if (name := recorded_market(connection)) not in (None, wanted):
        raise AccessRefused(
            f"{database_title(connection)} holds the {name} market, and this process is {wanted}: "
            f"name another database in DATABASE_URL, or set KURS_MARKET={name}"
        )


def recorded_market(connection: Connection) -> Market | None:
    """Return the market recorded in the database."""
    name: Market | None = connection.execute(market.select()).scalar()
    return name


def database_title(connection: Connection) -> str:
    """Return the database's name for messages."""
    name = str(connection.engine.url.database)
    in_schema = f" (schema {connection.dialect.default_schema_name})"
    return name + in_schema if connection.dialect.name == "postgresql" else name


def move_simulated_tables(connection: Connection) -> None:
    """Move tables that an older version simulated in PostgreSQL's default schema to the schema of that market."""
    tables = inspect(connection).get_table_names()
    if market.name in tables or rates.name not in tables or not is_simulated(connection):
        return
    make_schema(connection, SIMULATED)
    if inspect(connection).get_table_names(SIMULATED):
        raise AccessRefused(
            f"{database_title(connection)} holds a simulated market, and the schema {SIMULATED} has one already: "
            "drop one of them"
        )
    log.warning("store: %s holds a simulated market: moved to the schema %s", database_title(connection), SIMULATED)
    known_tables = {*metadata.tables, "alembic_version"}
    for name in tables:  # also the partitions of candles, which do not follow their parent
        if name in known_tables or name.startswith(f"{candles.name}_"):
            connection.execute(text(f"ALTER TABLE {name} SET SCHEMA {SIMULATED}"))


def make_schema(connection: Connection, name: str) -> None:
    """Create a schema if it does not exist. Only then the permission to create one is needed."""
    if name not in inspect(connection).get_schema_names():
        connection.execute(schema.CreateSchema(name))


def is_simulated(connection: Connection) -> bool:
    """Return whether a stored rate is simulated."""
    return connection.execute(rates.select().where(rates.c.body.like(SIMULATED_PATTERN)).limit(1)).first() is not None


def _stored_market(connection: Connection) -> Market | None:
    names = inspect(connection).get_table_names()
    tables = (table for table in (candles, rates) if table.name in names)
    if all(connection.execute(table.select().limit(1)).first() is None for table in tables):
        return None
    if market.name in names and (name := recorded_market(connection)):
        return name
    return SIMULATED if is_simulated(connection) else LIVE
