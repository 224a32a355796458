"""Roles in the store: an advisory lock of PostgreSQL, which ends with its session."""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.adapters.retry import retry_until_available
from services.adapters.sql.engine import SESSION_NAME, translate_errors
from services.core.errors import Unavailable
from services.leases import Lease

LOCK_FAMILY_ID = 7_461_226  # arbitrary, but unique in the database
RETRY_SECONDS = 0.5
SESSION_END_SECONDS = 1  # until the session of an ended holder is closed
SESSION_CHECK_SECONDS = 2  # between two checks of the session
ELECTED_SUFFIX = " elected"  # of the session's name, if the process also holds the role at the broker
# The server has to detect within seconds that a client was disconnected.
SET_KEEPALIVES = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3"
SELECT_HOLDER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = :family AND objid = :role
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name IN (:holder, :others) AND datname = current_database()
"""
log = logging.getLogger(__name__)


@asynccontextmanager
async def hold_role(
    engine: AsyncEngine, role: str, on_wait: Callable[[str], None], elected: bool
) -> AsyncIterator[Lease]:
    """Hold a role as soon as no other process does.

    `elected`: this process holds the role at the broker. A process that was elected before and still holds the lock
    hangs. Its sessions are ended, so that it cannot commit anything when it continues.
    """
    async with AsyncExitStack() as session:
        yield await retry_until_available(partial(_acquire, engine, role, on_wait, elected, session))


async def _acquire(
    engine: AsyncEngine, role: str, waits: Callable[[str], None], elected: bool, session: AsyncExitStack
) -> Lease:
    await session.aclose()
    connection = await session.enter_async_context(_session(engine))
    names = {"family": LOCK_FAMILY_ID, "role": zlib.crc32(f"{engine.dialect.default_schema_name} {role}".encode()) >> 1}
    try_it = text("SELECT pg_try_advisory_lock(:family, :role)")
    async with translate_errors(engine):
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute(
            f"{SET_KEEPALIVES}; SET application_name = '{SESSION_NAME}{ELECTED_SUFFIX if elected else ''}'"
        )
        for tries in count():
            if await connection.scalar(try_it, names):
                break
            holder = await connection.scalar(text(SELECT_HOLDER), names)
            if holder and not tries:
                waits(holder.removesuffix(ELECTED_SUFFIX))
            if holder and elected and holder.endswith(ELECTED_SUFFIX) and tries > SESSION_END_SECONDS / RETRY_SECONDS:
                log.warning("role %s: %s hangs while it holds it: its sessions are ended", role, holder)
                await connection.execute(
                    text(END_SESSIONS), {"holder": holder, "others": holder.removesuffix(ELECTED_SUFFIX)}
                )
            await asyncio.sleep(RETRY_SECONDS)
    lease = Lease()
    driver.add_termination_listener(lambda _: lease.lost.set())
    proving = asyncio.create_task(_check_session(engine, connection, lease), name="role")
    session.callback(proving.cancel)
    return lease


@asynccontextmanager
async def _session(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a session that is not pooled, because its lock ends with it."""
    async with translate_errors(engine):
        connection = await engine.connect()
    try:
        yield connection
    finally:
        await connection.invalidate()
        await connection.close()


async def _check_session(engine: AsyncEngine, connection: AsyncConnection, lease: Lease) -> None:
    try:
        while True:
            await asyncio.sleep(SESSION_CHECK_SECONDS)
            async with translate_errors(engine):
                await connection.execute(text("SELECT 1"))
    except Unavailable:
        lease.lost.set()
