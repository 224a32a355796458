"""Databases for the tests of services."""

import shutil
from pathlib import Path

import pytest

from services.adapters import sql
from tests import servers


@pytest.fixture(scope="session")
async def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("empty") / "kurs.db"
    await sql.migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(scope="session")
async def empty_postgres(postgres: servers.Postgres) -> str:
    """The URL of a migrated PostgreSQL database to copy."""
    url = postgres.create_database()
    await sql.migrate(url)
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, empty_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a migrated database without rows, of either kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{shutil.copy(empty_sqlite, tmp_path)}"
    template: str = request.getfixturevalue("empty_postgres")
    server: servers.Postgres = request.getfixturevalue("postgres")
    return server.create_database(template)


@pytest.fixture
def sqlite(empty_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite database without rows."""
    return f"sqlite+aiosqlite:///{shutil.copy(empty_sqlite, tmp_path)}"
