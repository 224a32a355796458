"""`kurs vault`, as an operator uses it: a rotation that is killed, a key that is lost, and keys in settings."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from services.accounts.vault import Vault
from services.adapters import sql
from services.adapters.clock import SystemClock
from services.adapters.sql import accounts
from services.core.accounts.model import Person
from services.core.accounts.secret_keys import format_key, parse_keys
from services.core.markets import SIMULATED
from services.key_files import MASTER_KEY, load_keys, new_key, prepare_keys, write_keys
from services.settings import Settings
from tests.system import ROOT, refusal_line, run_command

PEOPLE = [f"person-{number:04}" for number in range(1_000)]
Sealed = Mapping[str, str]


class OneProcess:
    """The data folder of a Kurs in one process, with secrets of people."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.file, self.database = self.data / MASTER_KEY.file_name, self.data / "kurs-simulated.db"
        self.env = {"KURS_DATA_DIR": str(self.data), "KURS_MARKET": "simulated"}

    async def entrust(self) -> Sealed:
        """Make people, and seal something for each."""
        settings = Settings(_env_file=None, data_dir=self.data)
        prepare_keys(settings, ["accounts"])
        url = f"sqlite+aiosqlite:///{self.database}"
        await sql.migrate(url, SIMULATED)
        store = accounts.connect(url)
        vault, sealed = Vault(store, SystemClock(), partial(load_keys, settings, MASTER_KEY)), dict[str, str]()
        async with store.transaction() as transaction:
            for name in PEOPLE:
                person = Person(id=name, name=name, password_hash="$", created_at=0, password_changed_at=0)
                await transaction.persons.add(person)
                sealed[name] = await vault.seal(transaction, name, "test", name.encode())
        await store.close()
        return sealed

    async def opens_all(self, sealed: Sealed) -> bool:
        """Whether all that was sealed opens with the keys that the file has now."""
        settings = Settings(_env_file=None, data_dir=self.data)
        store = accounts.connect(f"sqlite+aiosqlite:///{self.database}")
        vault = Vault(store, SystemClock(), partial(load_keys, settings, MASTER_KEY))
        await vault.check_master_key()
        async with store.transaction() as transaction:
            opened = [await vault.open(transaction, name, "test", text) for name, text in sealed.items()]
        await store.close()
        return opened == [name.encode() for name in sealed]

    def resealed(self) -> int:
        """How many data keys the first master key seals."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            first = parse_keys(self.file.read_text())[0].id
            count: int = connection.execute("SELECT count(*) FROM data_keys WHERE kek_id = ?", [first]).fetchone()[0]
            return count

    def has_two_keys(self) -> bool:
        return len(parse_keys(self.file.read_text())) == 2


async def kill_rotation(kurs: OneProcess, when: Callable[[], bool]) -> None:
    """Begin a rotation, and kill its process as soon as something is so."""
    command = (sys.executable, "-m", "services", "vault", "rotate")
    env = {**os.environ, "PYTHONPATH": str(ROOT), **kurs.env}
    process = await asyncio.create_subprocess_exec(*command, cwd=kurs.folder, env=env)
    try:
        async with asyncio.timeout(60):
            while not when():
                assert process.returncode is None, "the rotation ended before"
                await asyncio.sleep(0.001)
    finally:
        process.kill()
        await process.wait()


async def test_killed_rotation_loses_nothing_and_is_finished_by_the_next(tmp_path: Path) -> None:
    kurs = OneProcess(tmp_path)
    sealed = await kurs.entrust()
    (first,) = parse_keys(kurs.file.read_text())
    await kill_rotation(kurs, kurs.has_two_keys)
    assert await kurs.opens_all(sealed)
    for part in (1, len(PEOPLE) // 4, len(PEOPLE) // 2):
        await kill_rotation(kurs, lambda part=part: part <= kurs.resealed())  # type: ignore[misc]
        assert part <= kurs.resealed() < len(PEOPLE)
        assert await kurs.opens_all(sealed)
    new, old = parse_keys(kurs.file.read_text())
    assert old == first
    ended = run_command(tmp_path, "vault", "rotate", **kurs.env)
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, f"{new.id} replaces {old.id}")
    assert parse_keys(kurs.file.read_text()) == (new,)
    assert await kurs.opens_all(sealed)
    listed = run_command(tmp_path, "vault", **kurs.env).stdout.splitlines()
    assert [(line[:8], line.rpartition(" ")[2]) for line in listed] == [(new.id, str(len(PEOPLE)))]


async def test_two_rotations_at_once_are_one(tmp_path: Path) -> None:
    kurs = OneProcess(tmp_path)
    sealed = await kurs.entrust()
    rotate = partial(run_command, tmp_path, "vault", "rotate", **kurs.env)
    ended = await asyncio.gather(asyncio.to_thread(rotate), asyncio.to_thread(rotate))
    assert 0 in {each.returncode for each in ended}
    assert {each.returncode for each in ended} <= {0, 2}
    assert await kurs.opens_all(sealed)
    assert len(parse_keys(kurs.file.read_text())) == 1


async def test_wrong_master_key_ends_the_start_until_it_is_given_up(tmp_path: Path) -> None:
    kurs = OneProcess(tmp_path)
    await kurs.entrust()
    (lost,), other = parse_keys(kurs.file.read_text()), new_key()
    write_keys(kurs.file, (other,))
    line = refusal_line(tmp_path, "accounts", **kurs.env)
    assert line.startswith(f"kurs: KURS_MASTER_KEY is {other.id}, and this database needs {lost.id}: put that one back")
    assert f"kurs vault discard {lost.id}" in line
    refused = run_command(tmp_path, "vault", "discard", other.id, **kurs.env)
    assert (refused.returncode, "nothing has to be discarded" in refused.stderr) == (2, True)
    assert run_command(tmp_path, "vault", "discard", lost.id, **kurs.env).stdout.startswith(f"{len(PEOPLE)} data keys")
    assert run_command(tmp_path, "vault", **kurs.env).stdout.startswith(f"{other.id}  ")


async def test_keys_in_settings_are_replaced_by_the_operator(tmp_path: Path) -> None:
    """Kurs does not write settings: it says what to put where, and when the former key can go."""
    kurs = OneProcess(tmp_path)
    await kurs.entrust()
    (old,), new = parse_keys(kurs.file.read_text()), new_key()
    kurs.file.unlink()
    alone = run_command(tmp_path, "vault", "rotate", **kurs.env, KURS_MASTER_KEY=format_key(old))
    assert (alone.returncode, "put a new one before it" in alone.stderr) == (2, True)
    both = {**kurs.env, "KURS_MASTER_KEY": f"{format_key(new)},{format_key(old)}"}
    ended = run_command(tmp_path, "vault", "rotate", **both)
    assert ended.returncode == 0, ended.stderr
    assert f"nothing needs {old.id} any more" in ended.stdout
    assert not kurs.file.exists()
    listed = run_command(tmp_path, "vault", **kurs.env, KURS_MASTER_KEY=format_key(new)).stdout
    assert [line[:8] for line in listed.splitlines()] == [new.id]
    for key in (old, new):
        assert format_key(key) not in ended.stdout + ended.stderr + alone.stderr + listed
