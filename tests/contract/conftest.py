"""Databases, stores and queues for the contracts."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from services.account_ports import AccountStore
from services.adapters import sql
from services.adapters.memory import MemoryStore
from services.adapters.sql import accounts
from services.ports import Store
from tests import servers


def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/made/as/needed/kurs.db"
    server: servers.Postgres = request.getfixturevalue("postgres")
    return server.create_database()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    return empty_database(request, tmp_path)


@pytest.fixture
async def sql_store(url: str) -> AsyncIterator[sql.SqlStore]:
    """A SQL store on an empty, migrated database."""
    await sql.migrate(url)
    store = await sql.connect(url)
    yield store
    await store.close()


@pytest.fixture
async def account_store(url: str) -> AsyncIterator[AccountStore]:
    """A store of people and tasks on an empty, migrated database."""
    await sql.migrate(url)
    store = accounts.connect(url)
    yield store
    await store.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each adapter."""
    if request.param == "memory":
        yield MemoryStore()
        return
    url = empty_database(request, tmp_path)
    await sql.migrate(url)
    store = await sql.connect(url)
    yield store
    await store.close()


@pytest.fixture
def queue() -> str:
    """A work queue that only this test uses."""
    return f"test-{uuid4().hex[:8]}"
