"""Bringing a database up to date. Many may do it at once: one does, the others wait and find it done."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from services.adapters.sql import years
from services.adapters.sql.engine import make_engine, ping, reaching
from services.adapters.startup import until_up
from services.core.errors import Misconfigured

HISTORY = Path(__file__).parents[3] / "migrations"
SECONDS = 600  # how long another one's migration is waited for
LOCK = 7_461_225  # any number that nothing else in the database locks


async def migrate(url: str) -> None:
    """Apply what of the history is missing, all or nothing; waits until the database answers.

    Raises Misconfigured where the history was not installed beside the code.
    """
    if not (HISTORY / "env.py").is_file():
        raise Misconfigured(f"no migrations in {HISTORY}: install the whole tree, not only the package")
    engine = make_engine(url, SECONDS)
    try:
        await until_up(lambda: ping(engine))
        if engine.dialect.name == "sqlite":
            _lock_on_begin(engine)
        async with reaching(engine), engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            await connection.run_sync(_upgrade)
            if engine.dialect.name == "postgresql":
                await connection.run_sync(years.extend)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(HISTORY))
    command.upgrade(config, "head")


def _lock_on_begin(engine: AsyncEngine) -> None:
    """SQLite's driver leaves CREATE TABLE outside transactions; with this all of it is inside one, behind the lock."""

    def leave_transactions_to_us(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None

    event.listen(engine.sync_engine, "connect", leave_transactions_to_us)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
