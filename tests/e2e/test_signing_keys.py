"""The keys that sign access tokens, as an operator changes them while Kurs runs."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jwt

from services.adapters import sql
from services.key_files import TOKEN_KEY, new_key, prepare_keys, write_keys
from services.settings import Settings
from tests import servers
from tests.system import ROOT, SPLIT_KEYS, refusal_line, run_command

# A replica: it writes tokens, and verifies those that it reads.
REPLICA = """
import asyncio, sys, time
from functools import partial
from services.adapters.clock import SystemClock
from services.adapters.sql import accounts
from services.api.accounts.access_tokens import AccessTokens
from services.api.accounts.signing_keys import SigningKeys
from services.core.accounts.model import Person
from services.core.accounts.scopes import Scope
from services.key_files import TOKEN_KEY, load_keys
from services.settings import load

async def main():
    settings, clock = load(), SystemClock()
    store = accounts.connect(settings.database_url_of("live"))
    tokens = AccessTokens(SigningKeys(store, clock, partial(load_keys, settings, TOKEN_KEY)), clock, "live")
    person = Person(id="p", name="ann", password_hash="", created_at=0, password_changed_at=0)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def issue():
        while True:
            print("token", await tokens.issue(person, "s", frozenset({Scope.READ}), clock.now()), flush=True)
            await asyncio.sleep(0.002)

    issuing = asyncio.create_task(issue())
    while line := await reader.readline():
        try:
            await tokens.verify(line.decode().strip())
            print("valid", flush=True)
        except Exception as error:
            print("invalid", error, flush=True)
    issuing.cancel()

asyncio.run(main())
"""


class ReplicaProcess:
    """One replica, and how often it found a token valid or not."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout
        self.results, self.kids = Counter[str](), set[str]()

    async def pass_tokens_on(self, *replicas: "ReplicaProcess") -> None:
        """Give each of its tokens to all replicas."""
        async for line in self.stdout:
            kind, _, rest = line.partition(b" ")
            if kind == b"token":
                self.kids.add(jwt.get_unverified_header(rest.strip())["kid"])
                for replica in replicas:
                    replica.stdin.write(rest)
            else:
                self.results[line.decode().strip()] += 1


async def test_rotation_under_load_fails_no_verification(postgres: servers.Postgres, tmp_path: Path) -> None:
    """Two processes on PostgreSQL verify each other's tokens while an operator rotates the key again and again."""
    url = postgres.create_database()
    await sql.migrate(url)
    env = {"DATABASE_URL": url, "RABBITMQ_URL": "amqp://unused/", "KURS_MARKET": "live", **SPLIT_KEYS["api"]}
    pipes: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    pipes |= {"cwd": tmp_path, "env": {"PYTHONPATH": str(ROOT), **env}, "limit": 2**20}
    replicas = [
        ReplicaProcess(await asyncio.create_subprocess_exec(sys.executable, "-c", REPLICA, **pipes)) for _ in range(2)
    ]
    reading = [asyncio.create_task(each.pass_tokens_on(*replicas)) for each in replicas]
    rotated = list[str]()
    for _ in range(2):
        ended = await asyncio.to_thread(run_command, tmp_path, "keys", "rotate", **env)
        assert ended.returncode == 0, ended.stderr
        rotated.append(ended.stdout.split()[0])
        async with asyncio.timeout(60):
            while not all(rotated[-1] in each.kids for each in replicas):
                await asyncio.sleep(0.1)
    for each in replicas:
        each.stdin.close()
    await asyncio.gather(*reading, *(each.process.wait() for each in replicas))
    assert replicas[0].kids == replicas[1].kids >= set(rotated)
    for each in replicas:
        assert each.results.keys() == {"valid"}
        assert each.results["valid"] > 500
    listed = run_command(tmp_path, "keys", "list", **env).stdout.splitlines()
    assert [line.split()[0] for line in listed][-len(rotated) :] == rotated
    assert [line.endswith("  signs") for line in listed] == [False] * (len(listed) - 1) + [True]


def test_key_file_that_is_not_that_of_the_database_ends_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    env = {"KURS_DATA_DIR": str(folder), "KURS_MARKET": "simulated"}
    (kept,) = prepare_keys(Settings(_env_file=None, data_dir=folder), ["api"])
    assert "none yet" in run_command(tmp_path, "keys", **env).stdout
    assert run_command(tmp_path, "keys", "rotate", **env).returncode == 0
    other = new_key()
    write_keys(folder / TOKEN_KEY.file_name, (other,))
    line = refusal_line(tmp_path, "api", **env)
    assert line.startswith(f"kurs: KURS_TOKEN_KEY is {other.id}, and the key that signs access tokens is sealed with ")
    assert kept not in line
    assert run_command(tmp_path, "keys", "rotate", "--at-once", **env).returncode == 0
    listed = run_command(tmp_path, "keys", **env).stdout.splitlines()
    assert [line.split("  ")[-1] for line in listed] == ["has expired", "signs"]


def test_split_services_say_which_key_is_missing_and_how_to_make_one(tmp_path: Path) -> None:
    env = {"RABBITMQ_URL": "amqp://nowhere/", "DATABASE_URL": "postgresql+asyncpg://nowhere/kurs"}
    for service, variable in (("api", "KURS_TOKEN_KEY"), ("accounts", "KURS_MASTER_KEY")):
        line = refusal_line(tmp_path, service, **env)
        assert line.startswith(f"kurs: {variable} is missing: ")
        assert "makes one" in line
