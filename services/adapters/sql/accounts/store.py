"""The store of people and tasks on PostgreSQL or SQLite: one transaction over the groups of tables."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.adapters.sql.accounts.api_tokens import SqlApiTokens
from services.adapters.sql.accounts.audit import SqlAuditLog
from services.adapters.sql.accounts.keys import SqlAccountKeys
from services.adapters.sql.accounts.persons import SqlPersons
from services.adapters.sql.accounts.sign_ins import SqlSignIns
from services.adapters.sql.accounts.tasks import SqlTasks
from services.adapters.sql.engine import make_engine, translate_errors
from services.core.tasks import TaskUpdate

TaskListener = Callable[[Sequence[TaskUpdate]], Awaitable[None]]


async def _ignore_updates(_updates: Sequence[TaskUpdate]) -> None:
    """For a store on its own."""


def connect(url: str, on_tasks: TaskListener = _ignore_updates) -> "SqlAccountStore":
    """Return the store on `postgresql+asyncpg://` or `sqlite+aiosqlite://`. It connects when first used.

    `on_tasks` is awaited after each commit that has changed tasks.
    """
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _leave_transactions_to_us)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    return SqlAccountStore(engine, on_tasks)


def _leave_transactions_to_us(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin a transaction at the first write only
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = FULL")  # a token or an order that was confirmed survives a power cut
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    """Wait for other writers now: a transaction that reads first could not write after another one has."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class SqlAccountTransaction:
    """One transaction. Each group of tables is made when it is first used."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @cached_property
    def persons(self) -> SqlPersons:
        return SqlPersons(self._connection)

    @cached_property
    def sign_ins(self) -> SqlSignIns:
        return SqlSignIns(self._connection)

    @cached_property
    def api_tokens(self) -> SqlApiTokens:
        return SqlApiTokens(self._connection)

    @cached_property
    def keys(self) -> SqlAccountKeys:
        return SqlAccountKeys(self._connection)

    @cached_property
    def audit(self) -> SqlAuditLog:
        return SqlAuditLog(self._connection)

    @cached_property
    def tasks(self) -> SqlTasks:
        return SqlTasks(self._connection)


class SqlAccountStore:
    """The store of people and tasks. Its connections are not those of candles, so neither waits for the other."""

    def __init__(self, engine: AsyncEngine, on_tasks: TaskListener) -> None:
        self._engine, self._on_tasks = engine, on_tasks

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlAccountTransaction]:
        """Begin a transaction. Raises Unavailable when the database does not respond."""
        async with translate_errors(self._engine), self._engine.begin() as connection:
            transaction = SqlAccountTransaction(connection)
            yield transaction
        if updates := transaction.tasks.updates:
            await self._on_tasks(updates)

    async def close(self) -> None:
        """Close the pool's connections."""
        await self._engine.dispose()
