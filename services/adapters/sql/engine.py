"""Engines for PostgreSQL and SQLite, and the translation of their errors."""

import os
import secrets
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import event, exc, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.adapters import driver_errors
from services.core.errors import Misconfigured

# The name of this process's sessions at the database.
SESSION_NAME = f"kurs {os.getpid()}@{socket.gethostname()[:24]} {secrets.token_hex(4)}"
CONNECT_TIMEOUT_SECONDS = 5  # for a connection, from the server or from the pool
DRIVER_ERRORS = (
    *(exc.SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError),
    asyncpg.InternalClientError,  # the server died within a response
)
# How to fix errors that waiting does not end, by SQLite's error name and PostgreSQL's SQLSTATE.
SQLITE_ADVICE = {
    "SQLITE_NOTADB": "{} is not a SQLite database: move it away, or restore it from a backup",
    "SQLITE_CORRUPT": "{} is damaged: move it away, or restore it from a backup",
    "SQLITE_READONLY": "{} cannot be written: make the user that Kurs runs as the owner of it and its folder",
    "SQLITE_CANTOPEN": "{} cannot be opened: make the user that Kurs runs as the owner of it and its folder",
    "SQLITE_PERM": "{} cannot be opened: make the user that Kurs runs as the owner of it and its folder",
}
POSTGRES_ADVICE = {
    "28P01": "PostgreSQL refuses the password of {user}: correct DATABASE_URL",
    "28000": "PostgreSQL refuses the user {user}: correct DATABASE_URL, or PostgreSQL's pg_hba.conf",
    "3D000": "PostgreSQL has no database {database}: create it, or correct DATABASE_URL",
    "42501": "PostgreSQL denies {user} access in {database}: grant it",
}
# Errors in our values and statements: classes of PostgreSQL's SQLSTATE (two characters), names of SQLite. Every other
# error is about the database: unreachable, starting, stopping, full, read-only, locked, damaged, or too slow.
QUERY_ERROR_CLASSES = ("21", "22", "23", "2F", "42", "44", "54")
# No permission, no such column, no such table: the operator fixes these.
SCHEMA_ERROR_STATES = ("42501", "42703", "42P01")
SQLITE_QUERY_ERRORS = ("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_RANGE", "SQLITE_TOOBIG", "SQLITE_MISUSE")


def make_engine(address: str, seconds: float = 2 * CONNECT_TIMEOUT_SECONDS) -> AsyncEngine:
    """Return an engine that waits `seconds` for a response or a lock. A `schema` in the URL is its search path.

    It connects when first used. Connections that a restart has broken are replaced.
    """
    url = make_url(address)
    return _sqlite(url, seconds) if url.get_backend_name() == "sqlite" else _postgres(url, seconds)


def _postgres(url: URL, seconds: float) -> AsyncEngine:
    schema = url.query.get("schema")
    engine = create_async_engine(
        url.difference_update_query(["schema"]),
        hide_parameters=True,
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        connect_args={
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "command_timeout": seconds,
            "server_settings": {"application_name": SESSION_NAME, **({"search_path": str(schema)} if schema else {})},
        },
    )
    event.listen(engine.sync_engine, "checkout", _replace_broken)
    return engine


def _replace_broken(connection: Any, _record: object, _proxy: object) -> None:
    """Discard a connection that asyncpg knows to be closed. A ping of the server would cost three round trips.

    A task cancelled twice can leave its transaction open, so such a connection is discarded too.
    """
    driver = connection.driver_connection
    if driver.is_closed() or driver.is_in_transaction():
        raise exc.InvalidatePoolError


def _sqlite(url: URL, seconds: float) -> AsyncEngine:
    if url.database and url.database != ":memory:":
        make_folder(Path(url.database).parent)
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": seconds})
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    event.listen(engine.sync_engine, "invalidate", _roll_back)
    return engine


def make_folder(folder: Path) -> None:
    """Create a folder if it does not exist. Raises Misconfigured."""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)  # it gets hashes of passwords, and keys
    except OSError as error:
        raise Misconfigured(f"the database's folder cannot be created, choose another KURS_DATA_DIR: {error}") from None


def _set_pragmas(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL, a power cut may lose the last commits, never the file
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _roll_back(connection: DBAPIConnection, _record: object, _error: object) -> None:
    """Roll back before a connection is closed because its task was cancelled.

    SQLite releases the locks of a closed connection only with its last statement, and the traceback of the cancelled
    task refers to one. Other writers would wait for the lock until their timeout.
    """
    connection.rollback()


@asynccontextmanager
async def translate_errors(engine: AsyncEngine) -> AsyncIterator[None]:
    """Raise errors of the database in the block as AccessRefused or Unavailable. Errors of a statement stay."""
    server = f"the database ({engine.dialect.name})"
    with driver_errors.translate(server, DRIVER_ERRORS, partial(_advice, engine.url), _is_query_error):
        yield


def _advice(url: URL, error: BaseException) -> str:
    """Return how to fix a refusal that waiting does not end; "" for every other error."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", "")
        return next((text.format(url.database) for kind, text in SQLITE_ADVICE.items() if name.startswith(kind)), "")
    return POSTGRES_ADVICE.get(getattr(cause, "sqlstate", None) or "", "").format(
        database=url.database, user=url.username
    )


def _is_query_error(error: Exception) -> bool:
    """Return whether the statement or its values are wrong, while the database works."""
    cause = getattr(error, "orig", None) or error
    cause = cause.__cause__ if cause.__cause__ and not hasattr(cause, "sqlite_errorname") else cause
    if state := getattr(cause, "sqlstate", None):
        return str(state).startswith(QUERY_ERROR_CLASSES) and state not in SCHEMA_ERROR_STATES
    if name := getattr(cause, "sqlite_errorname", None):
        return str(name).startswith(SQLITE_QUERY_ERRORS)
    if isinstance(error, exc.SQLAlchemyError):  # of a driver, of the pool, or of a wrong use of SQLAlchemy
        return not isinstance(error, exc.DBAPIError | exc.TimeoutError | exc.DisconnectionError)
    return False


async def ping(engine: AsyncEngine) -> None:
    """Check that the database responds. Raises Unavailable."""
    async with translate_errors(engine), engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
