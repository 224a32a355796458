"""Errors that waiting does not fix end a process with 2 and a line that says what to do."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from tests.servers import find_program, free_port
from tests.system import UNPRIVILEGED, refusal_line, run_command


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A migrated SQLite database."""
    folder = tmp_path / "data"
    migrated = run_command(tmp_path, "migrate", KURS_DATA_DIR=str(folder), KURS_MARKET="simulated")
    assert migrated.returncode == 0, migrated.stderr
    return folder / "kurs-simulated.db"


def test_file_that_is_no_database_is_refused(tmp_path: Path, database: Path) -> None:
    database.write_bytes(b"garbage " * 10_000)
    assert "is not a SQLite database: move it away" in refusal_line(tmp_path, KURS_DATA_DIR=str(database.parent))


def test_truncated_database_is_refused(tmp_path: Path, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.write_bytes(database.read_bytes()[:8192])
    assert "is damaged: move it away" in refusal_line(tmp_path, KURS_DATA_DIR=str(database.parent))


def test_database_of_a_newer_version_is_refused(tmp_path: Path, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    line = refusal_line(tmp_path, KURS_DATA_DIR=str(database.parent))
    assert "is of a newer version (9999)" in line
    assert "upgrade Kurs" in line


def test_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("this is a file")
    assert "KURS_DATA_DIR" in refusal_line(tmp_path, KURS_DATA_DIR=str(tmp_path / "data"))


@pytest.mark.skipif(os.getuid() == 0 and not UNPRIVILEGED, reason="root may write everything")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_read_only_data_is_refused_with_advice(tmp_path: Path, database: Path, what: str) -> None:
    (database if what == "file" else database.parent).chmod(0o500)
    for file in (database.with_name(f"{database.name}-{part}") for part in ("wal", "shm")):
        file.unlink(missing_ok=True)
    try:
        assert "the owner of" in refusal_line(tmp_path, KURS_DATA_DIR=str(database.parent))
    finally:
        database.parent.chmod(0o700)
        database.chmod(0o600)


def test_lock_that_cannot_be_written_is_refused(tmp_path: Path, database: Path) -> None:
    lock = database.with_name("kurs.db.lock")
    lock.unlink()
    lock.mkdir()
    assert "kurs.db.lock cannot be written" in refusal_line(tmp_path, KURS_DATA_DIR=str(database.parent))


def test_refused_access_to_postgresql_ends_a_process_with_its_reason(
    tmp_path: Path, postgres: servers.Postgres
) -> None:
    url = postgres.create_database()
    name = url.rpartition("/")[2]
    assert run_command(tmp_path, "migrate", DATABASE_URL=url, KURS_MARKET="live").returncode == 0
    sql(postgres, f"CREATE ROLE poor LOGIN PASSWORD 'right'; REVOKE CREATE ON DATABASE {name} FROM PUBLIC")
    access = postgres.folder / "data" / "pg_hba.conf"
    before = access.read_text()
    access.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{before}")
    sql(postgres, "CREATE ROLE locked LOGIN PASSWORD 'right'; SELECT pg_reload_conf()")
    try:
        for changed, reason in (
            (url.replace("kurs@", "locked:a-secret@"), "refuses the password of locked"),
            (url.replace("kurs@", "stranger@"), "refuses the user stranger"),
            (url.replace(name, "nowhere"), "has no database nowhere"),
            (url.replace("kurs@", "poor@"), "denies poor access"),
        ):
            for arguments in (("migrate",), ("writer",)):
                line = refusal_line(tmp_path, *arguments, DATABASE_URL=changed, KURS_MARKET="live")
                assert reason in line
                assert "a-secret" not in line
    finally:
        access.write_text(before)
        sql(postgres, "SELECT pg_reload_conf()")


def sql(server: servers.Postgres, statements: str) -> None:
    subprocess.run([find_program("psql"), "-q", server.url.replace("+asyncpg", ""), "-c", statements], check=True)  # noqa: S603


def test_command_ends_with_1_if_the_database_does_not_respond(tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://somebody:a-secret@127.0.0.1:{free_port()}/kurs"
    ended = run_command(tmp_path, "verify", DATABASE_URL=url)
    assert ended.returncode == 1
    assert ended.stderr.startswith("kurs: the database (postgresql) does not respond: ")
    assert ended.stderr.count("\n") == 1
    assert "a-secret" not in ended.stderr


def test_command_is_refused_if_the_database_refuses_its_user(tmp_path: Path, postgres: servers.Postgres) -> None:
    url = postgres.create_database().replace("kurs@", "stranger@")
    assert "refuses the user stranger" in refusal_line(tmp_path, "verify", DATABASE_URL=url, KURS_MARKET="auto")


def test_refused_access_to_rabbitmq_and_redis_ends_a_process_with_its_reason(
    tmp_path: Path, rabbit: servers.Rabbit, redis: servers.Server
) -> None:
    wrong = rabbit.url.replace("guest:guest", "guest:a-secret")
    line = refusal_line(tmp_path, "pricer", RABBITMQ_URL=wrong, KURS_DATA_DIR=str(tmp_path / "data"))
    assert "RabbitMQ refuses the user or the password: correct RABBITMQ_URL" in line
    for url, reason in (
        (redis.url.replace("redis://", "redis://somebody:a-secret@"), "refuses the user or the password"),
        (redis.url.removesuffix("/0") + "/99999", "no such database"),
    ):
        line = refusal_line(tmp_path, "pricer", REDIS_URL=url, KURS_DATA_DIR=str(tmp_path / "data"))
        assert reason in line
        assert "a-secret" not in line
