"""`kurs passwords FOLDER`: accounts of the services at PostgreSQL, Redis and RabbitMQ, as files for containers.

Each container mounts its own folder in FOLDER and no other. A service's folder has its URLs, a server's folder has the
accounts. The URLs are permanent, and everything else is generated from them each time.

The folders of two services have a key as well: what it protects is lost with it. So it is made once, `--rotate` leaves
it as it is, and only `--drop-key` deletes one, by its name.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from services.adapters.rabbit import permissions as rabbit
from services.adapters.redis import acl as redis
from services.adapters.sql import grants as sql
from services.core.accounts.secret_keys import format_key, parse_keys
from services.core.errors import Misconfigured
from services.key_files import MASTER_KEY, TOKEN_KEY, Keys, new_key

KEY_FILES = {"master": f"{MASTER_KEY.service}/master-key", "token": f"{TOKEN_KEY.service}/token-key"}
OWNER = "kurs"  # superuser and owner of the schema
DATABASE_URL = "postgresql+asyncpg://{user}:{password}@postgres/kurs"
REDIS_URL, RABBITMQ_URL = "redis://{user}:{password}@redis/0", "amqp://{user}:{password}@rabbitmq/"
OBSOLETE_FILES = (
    "postgres/url",
    "redis/url",
    "redis/password",
    "redis/redis.conf",
    "rabbitmq/url",
    "rabbitmq/password",
)
RABBITMQ_CONF = """load_definitions = /run/secrets/rabbitmq/definitions.json
log.connection.level = error
vm_memory_high_watermark.absolute = 384MB
disk_free_limit.absolute = 512MB
"""
Passwords = Mapping[str, str]


def run(args: Sequence[str]) -> None:
    """Run the command. Raises Misconfigured. Wrong arguments end the program."""
    parser = argparse.ArgumentParser("kurs passwords", description="Accounts and keys of containers, as files.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--rotate", action="store_true", help="with new passwords; the keys stay")
    parser.add_argument("--new-key", choices=KEY_FILES, help="put a new key before the one that is there")
    parser.add_argument("--add-key", choices=KEY_FILES, help="read keys from standard input, as former ones")
    parser.add_argument("--drop-key", metavar="ID", help="delete a former key that `kurs vault rotate` has replaced")
    options = parser.parse_args(args)
    try:
        write_accounts(options.folder, options.rotate)
        if options.new_key:
            _put_new_key_first(options.folder / KEY_FILES[options.new_key])
        if options.add_key:
            _add_former_keys(options.folder / KEY_FILES[options.add_key], sys.stdin.read())
        if options.drop_key:
            _drop_key(options.folder, options.drop_key)
    except OSError as error:
        raise Misconfigured(f"the accounts cannot be written: {error}") from None


def write_accounts(folder: Path, rotate: bool = False) -> None:
    """Write all files in FOLDER, with new passwords for accounts that have none or, with `rotate`, for all.

    A new folder is readable by its owner only, because every user may read the files in it; an existing folder keeps
    its mode. Redis accepts the passwords before a rotation until the next run.
    """
    folder.mkdir(0o700, parents=True, exist_ok=True)
    former = _passwords_in(folder, "redis", redis.ACL_RULES)
    owner = _owner_password(folder, rotate)
    database = _write_urls(folder, "database", DATABASE_URL, {name: sql.role_name(name) for name in sql.GRANTS}, rotate)
    cache = _write_urls(folder, "redis", REDIS_URL, {name: name for name in redis.ACL_RULES}, rotate)
    bus = _write_urls(folder, "rabbitmq", RABBITMQ_URL, {name: name for name in rabbit.PERMISSIONS}, rotate)
    verifiers = {name: _verifier(password) for name, password in database.items()}
    roles = {OWNER: _verifier(owner)} | {sql.role_name(name): verifier for name, verifier in verifiers.items()}
    _write(folder / "migrate/database", DATABASE_URL.format(user=OWNER, password=owner))
    _write(folder / "migrate/roles", ",".join(f"{name}={verifier}" for name, verifier in verifiers.items()))
    statements = [f"ALTER ROLE {role} PASSWORD '{verifier}';" for role, verifier in roles.items()]
    _write(folder / "postgres/passwords.sql", "\n".join(statements))
    old = former if rotate else {}
    _write(
        folder / "redis/users.acl",
        redis.users({name: {secret, old.get(name, secret)} for name, secret in cache.items()}),
    )
    _write(folder / "rabbitmq/definitions.json", json.dumps(rabbit.definitions(bus), indent=1))
    _write(folder / "rabbitmq/rabbitmq.conf", RABBITMQ_CONF)
    for name in KEY_FILES.values():
        if not _keys_in(folder / name):
            _write_keys(folder / name, (new_key(),))
    for name in OBSOLETE_FILES:
        (folder / name).unlink(missing_ok=True)


def _owner_password(folder: Path, rotate: bool) -> str:
    path = folder / "postgres/password"
    if rotate or not (path.exists() and path.read_text().strip()):
        _write(path, secrets.token_hex(24))
    return path.read_text().strip()


def _write_urls(folder: Path, server: str, form: str, users: Mapping[str, str], rotate: bool) -> Passwords:
    """Write the missing URLs of accounts at a server. Return all passwords by service."""
    passwords = {} if rotate else _passwords_in(folder, server, users)
    for service in users.keys() - passwords.keys():
        _write(folder / service / server, form.format(user=users[service], password=secrets.token_hex(24)))
    return _passwords_in(folder, server, users)


def _passwords_in(folder: Path, server: str, services: Mapping[str, object]) -> Passwords:
    """Return the passwords in the existing URLs by service."""
    urls = {name: path.read_text() for name in services if (path := folder / name / server).exists()}
    return {name: password for name, url in urls.items() if (password := urlsplit(url).password)}


def _put_new_key_first(path: Path) -> None:
    keys = new_key(), *_keys_in(path)
    _write_keys(path, keys)
    print(f"{path}: {keys[0].id} comes first now, before {', '.join(key.id for key in keys[1:])}")  # noqa: T201


def _add_former_keys(path: Path, text: str) -> None:
    """Put keys after those that are there: a restored database needs its own. Raises Misconfigured."""
    try:
        given = parse_keys(text)
    except ValueError as error:
        raise Misconfigured(f"--add-key: {error}") from None
    keys = _keys_in(path)
    added = tuple(key for key in given if key not in keys)
    _write_keys(path, (*keys, *added))
    print(f"{path}: {', '.join(key.id for key in added) or 'nothing'} is added after {keys[0].id}")  # noqa: T201


def _drop_key(folder: Path, name: str) -> None:
    """Delete the key of an id, unless it is the first one. Raises Misconfigured."""
    for path in (folder / file for file in KEY_FILES.values()):
        first, *former = _keys_in(path)
        left = [key for key in former if key.id != name]
        if len(left) < len(former):
            _write_keys(path, (first, *left))
            print(f"{path}: {name} is deleted")  # noqa: T201
            return
    raise Misconfigured(f"--drop-key: there is no former key {name!r} in {folder}")


def _keys_in(path: Path) -> Keys:
    """Return the keys in a file, none if there is no file. Raises Misconfigured."""
    try:
        return parse_keys(path.read_text()) if path.exists() else ()
    except ValueError as error:
        raise Misconfigured(f"{path}: {error}") from None


def _write_keys(path: Path, keys: Keys) -> None:
    _write(path, "\n".join(map(format_key, keys)))


def _verifier(password: str) -> str:
    return sql.verifier(password, secrets.token_bytes(16))


def _write(path: Path, text: str) -> None:
    """Replace a file atomically. Every user may read it, because the folder is mounted in one container only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with new.open("w") as file:
        file.write(f"{text.strip()}\n")
        file.flush()
        os.fsync(file.fileno())  # a key that is used must survive a power cut
    new.chmod(0o444)
    new.replace(path)
