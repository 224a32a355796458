"""A private PostgreSQL."""

import os
import pwd
import random
import signal
import subprocess
from pathlib import Path

from tests.servers.process import Server, find_program, free_port


class Postgres(Server):
    """PostgreSQL, which creates databases on request."""

    def create_database(self, template: str = "template1") -> str:
        """Return the URL of a new database: an empty one, or a copy of the one with the URL `template`."""
        name = f"db{random.SystemRandom().randrange(10**12)}"
        statement = f"CREATE DATABASE {name} TEMPLATE {template.rpartition('/')[2]}"
        command = [find_program("psql"), "-q", self.url.replace("+asyncpg", ""), "-c", statement]
        subprocess.run(command, check=True)  # noqa: S603
        return self.url.removesuffix("postgres") + name


def postgres(folder: Path) -> Postgres:
    """Return a PostgreSQL whose data may be lost with the machine."""
    user = postgres_user()
    if user is not None:
        os.chown(folder, user, -1)
    subprocess.run(  # noqa: S603
        [
            find_program("initdb"),
            "-D",
            folder / "data",
            "-U",
            "kurs",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        user=user,
    )
    port = free_port()
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
    }
    command = [find_program("postgres"), "-D", str(folder / "data")]
    command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    check = [find_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return Postgres(
        "PostgreSQL",
        f"postgresql+asyncpg://kurs@127.0.0.1:{port}/postgres",
        folder,
        command,
        ready=lambda: subprocess.run(check, check=False).returncode == 0,  # noqa: S603
        user=user,
        stop_signal=signal.SIGINT,  # SIGTERM would wait for its clients to disconnect
    )


def postgres_user() -> int | None:
    """Return the user that runs PostgreSQL in place of root, which it refuses. None: the current one."""
    if os.getuid() != 0:
        return None
    users = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
    return users.get("postgres", users["daemon"])
