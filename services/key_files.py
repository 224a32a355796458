"""The master key and the token key: from settings, or from files that a Kurs in one process makes for itself."""

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from services.core.accounts.secret_keys import HOW_TO_MAKE, KEY_BYTES, SecretKey, format_key, parse_keys
from services.core.errors import Misconfigured
from services.settings import Settings

OTHERS_MAY_READ = 0o077
LOCK_FILE = "keys.lock"
log = logging.getLogger(__name__)


class KeyKind(NamedTuple):
    """One of the keys: its setting, the file that one process makes, and the service that needs it."""

    setting: str
    file_name: str
    service: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"KURS_{self.setting.upper()}"


MASTER_KEY = KeyKind("master_key", "master.key", "accounts")
TOKEN_KEY = KeyKind("token_key", "token.key", "api")
Keys = tuple[SecretKey, ...]


def prepare_keys(settings: Settings, services: Sequence[str]) -> list[str]:
    """Make the keys that these services need and one process may make for itself. Return the texts of all.

    Raises Misconfigured for a missing or wrong one.
    """
    texts = list[str]()
    for kind in (MASTER_KEY, TOKEN_KEY):
        if kind.service in services:
            if file := key_file(settings, kind):
                _make_if_missing(file)
                _warn_if_readable(file)
            texts += map(format_key, load_keys(settings, kind))
    return texts


def load_keys(settings: Settings, kind: KeyKind) -> Keys:
    """Return the keys of a kind, at least one. Raises Misconfigured."""
    if given := getattr(settings, kind.setting).get_secret_value():
        return parse_keys(given)
    file = key_file(settings, kind)
    if file is None:
        raise Misconfigured(
            f"{kind.variable} is missing: where Kurs is split, the service {kind.service} and its commands need it; "
            f"{HOW_TO_MAKE}"
        )
    return _read(file, kind)


def key_file(settings: Settings, kind: KeyKind) -> Path | None:
    """Return the file that one process keeps its keys in, None where the setting has them or Kurs is split."""
    text = getattr(settings, kind.setting).get_secret_value()
    return settings.data_dir / kind.file_name if settings.in_memory and not text else None


def new_key() -> SecretKey:
    """Return a random key."""
    return SecretKey(secrets.token_bytes(KEY_BYTES))


@contextmanager
def changing_key_file(file: Path) -> Iterator[None]:
    """Let no other process change a key file until the block ends. Raises Misconfigured if one does."""
    with _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


def write_keys(file: Path, keys: Keys) -> None:
    """Replace a key file, which its user alone may read. Whenever the machine stops, it is the old or the new one."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write("\n".join(map(format_key, keys)) + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
    _sync_folder(file.parent)


def _make_if_missing(file: Path) -> None:
    """Make a key file. Of several processes that do so at once one makes it, and all use that one."""
    if file.exists():
        return
    try:
        file.parent.mkdir(0o700, parents=True, exist_ok=True)
        with _lock(file, fcntl.LOCK_EX):
            if not file.exists():
                write_keys(file, (new_key(),))
                log.info("keys: made %s; copy it to a safe place, but not to that of the database's backups", file)
    except OSError as error:
        raise Misconfigured(
            f"{file} cannot be made ({error.strerror}): make the user that Kurs runs as the owner of {file.parent}, or "
            "choose another KURS_DATA_DIR"
        ) from None


@contextmanager
def _lock(file: Path, mode: int) -> Iterator[None]:
    """Hold the lock of a folder's key files. The kernel ends it with its holder. Raises Misconfigured, OSError."""
    with file.with_name(LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, mode)
        except BlockingIOError:
            raise Misconfigured(f"{file}: another command changes it now; wait for its end") from None
        yield


def _sync_folder(folder: Path) -> None:
    """Wait until the names of files in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _warn_if_readable(file: Path) -> None:
    """Warn of a file that others may read. On some file systems every file is like that, so it is no error."""
    if file.stat().st_mode & OTHERS_MAY_READ:
        log.warning("keys: other users of this machine may read a key: chmod 600 %s", file)


def _read(file: Path, kind: KeyKind) -> Keys:
    try:
        keys = parse_keys(file.read_text())
    except FileNotFoundError:
        raise Misconfigured(
            f"{file} is missing: the first start of Kurs in one process makes it, {kind.variable} may stand for it"
        ) from None
    except OSError as error:
        raise Misconfigured(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # UnicodeDecodeError too, whose text has bytes of the file
        why = "it is not text" if isinstance(error, UnicodeDecodeError) else error
        raise Misconfigured(f"{file}: {why}") from None
    if not keys:
        raise Misconfigured(f"{file} is empty: put the key back from its copy; {HOW_TO_MAKE}")
    return keys
