"""Upgrades of a database's schema. Several processes may migrate at once: the others wait for the first."""

from collections.abc import Mapping
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from services.adapters.retry import retry_until_available
from services.adapters.sql import grants, market_databases, partitions
from services.adapters.sql.engine import make_engine, ping, translate_errors
from services.core.errors import AccessRefused, Misconfigured, Unavailable
from services.core.markets import LIVE, Market

MIGRATIONS_DIR = Path(__file__).parents[3] / "migrations"
MIGRATION_TIMEOUT_SECONDS = 600  # for another process's migration
MIGRATION_LOCK_ID = 7_461_225  # arbitrary, but unique in the database


async def migrate(url: str, market: Market = LIVE, roles: Mapping[str, str] | None = None) -> None:
    """Apply the missing migrations, all or nothing, as soon as the database responds.

    `roles`: passwords of the services that get their own role on PostgreSQL.

    Raises Misconfigured where the migrations are not installed, for a database that is newer than the code or holds the
    other market, and where the database refuses this process.
    """
    if not (MIGRATIONS_DIR / "env.py").is_file():
        raise Misconfigured(f"no migrations in {MIGRATIONS_DIR}: install the whole tree, not only the package")
    engine = make_engine(url, MIGRATION_TIMEOUT_SECONDS)
    try:
        if engine.dialect.name == "postgresql":
            await _prepare_schema(url)
        await retry_until_available(lambda: ping(engine))
        if engine.dialect.name == "sqlite":
            _lock_on_begin(engine)
        async with translate_errors(engine), engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK_ID})"))
            else:
                # It changes nothing, but fails on a read-only file.
                await connection.execute(text("PRAGMA user_version = 0"))
            await connection.run_sync(_upgrade)
            await connection.run_sync(market_databases.record_market, market)
            if engine.dialect.name == "postgresql":
                await connection.run_sync(partitions.create_missing)
                await connection.run_sync(grants.grant, roles or {})
    except AccessRefused as error:
        raise Misconfigured(str(error)) from None
    finally:
        await engine.dispose()


def check_schema(connection: Connection, market: Market) -> None:
    """Raise Refused for a newer version's database or the other market's, Unavailable for an older version's."""
    if _revision(connection) != _scripts(connection).get_current_head():
        raise Unavailable(
            f"{market_databases.database_title(connection)} is of an older version: run `kurs migrate` on it"
        )
    market_databases.check_market(connection, market)


async def _prepare_schema(url: str) -> None:
    """Create the URL's schema, and move simulated tables out of the live market's schema."""
    schema = str(make_url(url).query.get("schema", ""))
    engine = make_engine(
        make_url(url).difference_update_query(["schema"]).render_as_string(False), MIGRATION_TIMEOUT_SECONDS
    )
    try:
        await retry_until_available(lambda: ping(engine))
        async with translate_errors(engine), engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK_ID})"))
            await connection.run_sync(market_databases.move_simulated_tables)
            if schema:
                await connection.run_sync(market_databases.make_schema, schema)
    finally:
        await engine.dispose()


def _scripts(connection: Connection) -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(connection))


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS_DIR))
    return config


def _revision(connection: Connection) -> str | None:
    """Return the database's revision, None if it is empty. Raises Refused for an unknown revision."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision not in (None, *(script.revision for script in _scripts(connection).walk_revisions())):
        raise AccessRefused(
            f"{market_databases.database_title(connection)} is of a newer version ({revision}) than this Kurs: "
            "upgrade Kurs, or restore the backup from before the upgrade"
        )
    return revision


def _upgrade(connection: Connection) -> None:
    _revision(connection)
    config = _config(connection)
    command.upgrade(config, "head")


def _lock_on_begin(engine: AsyncEngine) -> None:
    """Run everything in one transaction that takes the lock first. SQLite's driver leaves CREATE TABLE outside."""

    def leave_transactions_to_us(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None

    event.listen(engine.sync_engine, "connect", leave_transactions_to_us)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
