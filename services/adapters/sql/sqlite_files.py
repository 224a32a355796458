"""SQLite's files: one process locks those of both markets and writes to them; others may read."""

import fcntl
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from services.adapters.sql.engine import make_folder
from services.adapters.sql.market_databases import SIMULATED_PATTERN, log
from services.core.errors import Misconfigured

LOCK_TIMEOUT_SECONDS = 3  # for an owner that is ending, or a short command
LOCK_RETRY_SECONDS = 0.1


class FilesInUse(Misconfigured):
    """Another process owns the data folder."""


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite URL, None for another database or one in memory."""
    parts = make_url(url)
    named = parts.get_backend_name() == "sqlite" and parts.database and parts.database != ":memory:"
    return Path(parts.database) if named and parts.database else None


@contextmanager
def own_files(files: Iterable[Path], seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
    """Lock these files for writing until the block ends. Raises FilesInUse, with the name of the other process."""
    with ExitStack() as stack:
        for each in files:
            stack.enter_context(_lock_file(each, time.monotonic() + seconds))
        yield


@contextmanager
def _lock_file(database: Path, deadline: float) -> Iterator[None]:
    """Hold the kernel's lock, which ends with its holder in any case. The file's text only names the holder."""
    make_folder(database.parent)
    path = Path(f"{database}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Misconfigured(
            f"{path} cannot be written ({error.strerror}): make the user that Kurs runs as the owner of {path.parent}, "
            "or choose another KURS_DATA_DIR"
        ) from None
    try:
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                raise FilesInUse(f"{path.parent} is in use by {holder}: stop that, or choose another KURS_DATA_DIR")
            time.sleep(LOCK_RETRY_SECONDS)  # no other task runs yet
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def move_simulated_file(live: Path, simulated: Path) -> None:
    """Move the live file to the simulated one if an older version simulated in it. Raises Misconfigured."""
    if not live.is_file() or not _is_simulated(live):
        return
    if simulated.exists():
        raise Misconfigured(f"{live} holds a simulated market, and {simulated} already exists: move one of them away")
    try:
        with closing(sqlite3.connect(live, timeout=1)) as connection:
            # All of it is then in one file. It is refused while others have the file open.
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise Misconfigured(f"{live} holds a simulated market and cannot be moved to {simulated}: {error}") from None
    live.rename(simulated)
    log.warning("store: %s held a simulated market: moved to %s", live, simulated)


def _is_simulated(file: Path) -> bool:
    """Return whether a file without a market's name holds simulated rates. Its errors show when it is opened."""
    try:
        with closing(sqlite3.connect(file, timeout=1)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "market" in tables or "rates" not in tables:
                return False
            return (
                connection.execute("SELECT 1 FROM rates WHERE body LIKE ? LIMIT 1", [SIMULATED_PATTERN]).fetchone()
                is not None
            )
    except sqlite3.Error:
        return False
