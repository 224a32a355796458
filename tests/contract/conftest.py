"""What several contracts need."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from services.adapters import sql
from tests import servers


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/made/as/needed/kurs.db"
    server: servers.Postgres = request.getfixturevalue("postgres")
    return server.create_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[sql.SqlStore]:
    """A store on it."""
    await sql.migrate(url)
    store = await sql.connect(url)
    yield store
    await store.close()


@pytest.fixture
def queue() -> str:
    """A work queue that only this test uses."""
    return f"test-{uuid4().hex[:8]}"
