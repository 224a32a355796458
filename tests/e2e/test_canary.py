"""No secret of people or of Kurs is left anywhere: real processes at DEBUG level over real servers, through all flows
and several faults, then a search in everything that was written.
"""

import asyncio
import base64
import os
import re
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import httpx
import websockets
from redis.asyncio import Redis

from services.core.accounts.secret_keys import format_key
from services.key_files import new_key
from tests import nginx
from tests.canary import CanarySearch, files
from tests.servers import PrivateServers, Server, find_program, free_port, private_servers
from tests.system import ROOT, kurs_process
from tests.waiting import eventually

FIRST_ADMIN = re.compile(r"kurs: there is no admin yet.*(kurs_i_\w+).*")  # what an operator has to see
LIMITED = ("SIGN_IN", "REGISTRATION", "REFRESH", "PERSON", "UNAUTHENTICATED", "TICKET")
NO_LIMITS = {"API_RATE_LIMIT": "0", **{f"KURS_{name}_RATE_LIMIT": "0" for name in LIMITED}}
# Each encoding of this text is another one.
PASSWORD, SECOND_PASSWORD, MISTYPED = (f'Ü"{word}\\ <&>+/ horse 7%{word}' for word in ("canary", "siskin", "linnet"))
COMMANDS = {
    "persons add carl": f"{PASSWORD}\n",
    "persons reset carl": f"{SECOND_PASSWORD}\n",
    "persons list": "",
    "keys rotate": "",
    "vault rotate": "",
    "verify": "",
    "export BTCUSDT 1m -": "",
}
FAULTS = """
ALTER TABLE persons ADD CONSTRAINT fault CHECK (name NOT LIKE 'fault%');
ALTER TABLE sign_ins ADD CONSTRAINT fault CHECK (agent <> 'fault');
ALTER TABLE api_tokens ADD CONSTRAINT fault CHECK (name <> 'fault');
"""


@dataclass
class Split:
    """Two replicas of the API and the accounts service, with everything that listens to them."""

    folder: Path
    servers: PrivateServers
    search: CanarySearch
    database: str
    processes: dict[str, Server]
    env: dict[str, str]
    front: Server
    client: httpx.AsyncClient
    began: float
    broadcast: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    logged: list[bytes] = field(default_factory=list)

    async def request(self, method: str, path: str, token: str = "", **options: Any) -> httpx.Response:
        """Send a request through nginx. What an error says, and all headers, are searched later."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        options["headers"] = headers | options.get("headers", {})
        response = await self.client.request(method, path, **options)
        self.errors.append(f"{response.status_code} {response.headers}".encode())
        if response.status_code >= 400:
            self.errors.append(response.content)
        return response

    async def send(self, method: str, path: str, token: str = "", **body: Any) -> Any:
        """Send a request that succeeds, and return what it responds."""
        response = await self.request(method, path, token, json=body or None)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    def psql(self, statements: str) -> None:
        """Run statements as the owner of the database."""
        self.as_owner("psql", "-qv", "ON_ERROR_STOP=1", "-c", f"SET search_path = simulated; {statements}")

    def as_owner(self, program: str, *words: str) -> bytes:
        """Return what a program of PostgreSQL prints about the database."""
        command = [find_program(program), *words, self.database]
        return subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603

    async def run(self, *words: str, typed: str = "") -> str:
        """Run a command of Kurs, and return what it prints. What it logs is searched later."""
        env = {**os.environ, "PYTHONPATH": str(ROOT), **self.env}
        command = (sys.executable, "-m", "services", *words)
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env=env, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        printed, logged = await process.communicate(typed.encode())
        assert process.returncode in (0, 2), logged
        self.logged.append(logged)
        return printed.decode()


@asynccontextmanager
async def split_system(folder: Path, servers: PrivateServers) -> AsyncIterator[Split]:
    """A split Kurs whose keys are canaries. The API has no master key."""
    search, keys = CanarySearch(), {name: format_key(new_key()) for name in ("KURS_MASTER_KEY", "KURS_TOKEN_KEY")}
    for name, key in keys.items():
        raw = base64.urlsafe_b64decode(key + "==")
        search.add(name, key)
        search.add_bytes(f"{name}, decoded", raw)
    assert servers.postgres.process  # it has started: its templates are not searched
    began = time.time()
    env = {
        "DATABASE_URL": servers.postgres.create_database(),
        "REDIS_URL": servers.redis.create_database(),
        "RABBITMQ_URL": servers.rabbit.create_vhost(),
        "KURS_SIMULATOR_URL": f"http://127.0.0.1:{free_port()}/simulator",
        "KURS_MARKET": "simulated",
        "KURS_REGISTRATION": "invitation",
        "LOG_LEVEL": "DEBUG",
        **NO_LIMITS,
    }
    kurs_process(folder, "migrate", **env).run()
    own = {"accounts": "KURS_MASTER_KEY", "api 1": "KURS_TOKEN_KEY", "api 2": "KURS_TOKEN_KEY"}
    processes = {
        name: kurs_process(folder, name.partition(" ")[0], **env, **{key: keys[key]}) for name, key in own.items()
    }
    start_monitor(servers)
    (room := servers.folder / "front").mkdir()
    try:
        for process in processes.values():
            process.start()
        ports = [int(processes[name].url.rpartition(":")[2]) for name in ("api 1", "api 2")]
        servers.running.append(front := nginx.start_nginx(room, free_port(), ports))
        database = env["DATABASE_URL"].replace("+asyncpg", "")
        async with httpx.AsyncClient(base_url=front.url, timeout=20, trust_env=False) as client:
            split = Split(folder, servers, search, database, processes, {**env, **keys}, front, client, began)
            async with broadcast_messages(split):
                yield split
    finally:
        for process in processes.values():
            process.stop()


def start_monitor(servers: PrivateServers) -> None:
    """Write down all commands that Redis gets, until it is stopped."""
    (room := servers.folder / "monitor").mkdir()
    command = [find_program("redis-cli"), "-u", servers.redis.url, "monitor"]
    monitor = Server("monitor", "", room, command, ready=lambda: (room / "log").read_text().startswith("OK"))
    servers.running.append(monitor.start())


@asynccontextmanager
async def broadcast_messages(split: Split) -> AsyncIterator[None]:
    """Read a copy of every message at the broker."""
    vhost = urlsplit(split.env["RABBITMQ_URL"]).path.removeprefix("/")
    split.servers.rabbit.rabbitmqctl("trace_on", "-p", vhost)
    connection = await aio_pika.connect(split.env["RABBITMQ_URL"])
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind("amq.rabbitmq.trace", "#")

    async def keep(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        split.broadcast += [message.body, repr(message.headers).encode()]

    await queue.consume(keep, no_ack=True)
    yield
    await connection.close()


async def use_everything(split: Split) -> None:
    """Go through all flows of people, admins and the operator."""
    add, send = split.search.add, split.send
    await eventually(lambda: printed_codes(split))
    code = add("first admin's code", printed_codes(split)[0])
    await send("POST", "/v1/persons", name="root", password=add("password", PASSWORD), invitation=code)
    root = await sign_in(split, "root", PASSWORD, "admin's")
    invitation = await send("POST", "/v1/invitations", root["access_token"], role="trader")
    code = add("invitation", invitation["code"])
    person = await send("POST", "/v1/persons", name="ann", password=PASSWORD, invitation=code)
    ann = await sign_in(split, "ann", PASSWORD, "trader's")
    for _ in range(2):  # the second one gets the same successor
        refreshed = await send("POST", "/v1/sign-in/refresh", refresh_token=ann["refresh_token"])
        keep_tokens(split, refreshed, "refreshed")
    access = refreshed["access_token"]
    program = await send("POST", "/v1/api-tokens", access, name="program", scopes=["read"])
    add("API token", program["token"])
    await send("GET", "/v1/me", program["token"])
    await open_streams(split, program["token"])
    for path in ("/v1/api-tokens", "/v1/sign-ins", "/v1/audit", "/v1/me"):
        await send("GET", path, access)
    await send("POST", "/v1/me/password", access, password=PASSWORD, new_password=add("new password", SECOND_PASSWORD))
    for action in ("disable", "enable"):
        await send("POST", f"/v1/persons/{person['id']}/{action}", root["access_token"])
    ann = await sign_in(split, "ann", SECOND_PASSWORD, "later")
    await send("DELETE", f"/v1/api-tokens/{program['id']}", ann["access_token"])
    await split.request("POST", "/v1/sign-in/refresh", json={"refresh_token": refreshed["refresh_token"]})
    await send("DELETE", "/v1/sign-in", ann["access_token"])
    ann = await sign_in(split, "ann", SECOND_PASSWORD, "last")
    await send("DELETE", "/v1/me", ann["access_token"], password=SECOND_PASSWORD)
    await send("GET", "/v1/persons", root["access_token"])
    add("operator's invitation", (await split.run("persons", "invite")).strip())
    for words, typed in COMMANDS.items():
        split.logged.append((await split.run(*words.split(), typed=typed)).encode())


async def sign_in(split: Split, name: str, password: str, whose: str) -> Any:
    signed_in = await split.send("POST", "/v1/sign-in", name=name, password=password)
    keep_tokens(split, signed_in, whose)
    return signed_in


def keep_tokens(split: Split, signed_in: Any, whose: str) -> None:
    for name in ("access_token", "refresh_token"):
        split.search.add(f"{whose} {name}", signed_in[name])


def printed_codes(split: Split) -> list[str]:
    """Return the code of the first admin, which one of the replicas prints."""
    logs = ((process.folder / "log").read_text() for process in split.processes.values())
    return [code for log in logs for code in FIRST_ADMIN.findall(log)]


async def open_streams(split: Split, token: str) -> None:
    """Open streams with tickets, used up ones too."""
    for path in ("/v1/stream?channels=courses", "/ws/chart-data?"):
        issued = await split.send("POST", "/v1/stream/tickets", token)
        ticket = split.search.add(f"ticket of {path}", issued["ticket"])
        for _ in range(2):
            url = f"{path}&ticket={ticket}"
            if path.startswith("/ws"):
                with suppress(websockets.WebSocketException):
                    async with websockets.connect(f"ws{split.front.url.removeprefix('http')}{url}") as socket:
                        await socket.recv()
            else:
                async with split.client.stream("GET", url) as response:
                    await anext(response.aiter_bytes())


async def send_nonsense(split: Split) -> None:
    """Send secrets where they do not belong."""
    tokens = [each for name, each in split.search.secrets.items() if "token" in name or "ticket" in name]
    split.search.add("password as a name", MISTYPED)
    wrong: list[dict[str, Any]] = [
        {"json": {"name": MISTYPED, "password": PASSWORD}},
        {"json": {"name": "root", "password": MISTYPED}},
        {"json": {"name": [PASSWORD], "password": PASSWORD}},
        {"json": {"name": "root", "password": [PASSWORD]}},
        {"json": {"name": "root", "password": {PASSWORD: PASSWORD}}},
        {"json": {"name": "root", "pasword": PASSWORD}},
        {"json": {PASSWORD: PASSWORD}},
        {"json": PASSWORD},
        {"content": f'{{"name": "root", "password": "{PASSWORD}'.encode()},
        {"content": PASSWORD.encode("utf-16")},
        {"data": {"name": "root", "password": PASSWORD}},
        {"json": {"name": "root", "password": "x" * 70_000 + PASSWORD}},
        {"headers": {"authorization": "Basic " + base64.b64encode(f"root:{PASSWORD}".encode()).decode()}},
    ]
    for path in ("/v1/sign-in", "/v1/persons", "/v1/sign-in/refresh", "/v1/api-tokens"):
        for options in wrong:
            assert (await split.request("POST", path, **options)).status_code >= 400
    for token in tokens:
        await split.request("POST", "/v1/sign-in/refresh", json={"refresh_token": token})
        await split.request("POST", "/v1/persons", json={"name": "bob", "password": PASSWORD, "invitation": token})
        for path in ("/v1/me", "/v1/courses", "/v1/stream", "/ws/chart-data", "/v1/nothing", "/v1/audit"):
            await split.request("GET", path, params={"ticket": token, "token": token, "access_token": token})
            await split.request("GET", path, token)
        await split.request("GET", f"/v1/api-tokens/{token}")
        await split.request("DELETE", f"/v1/api-tokens/{token}", token)
        await split.request("GET", "/v1/me", headers={"cookie": f"token={token}", "referer": f"http://x/?t={token}"})


async def use_during_faults(split: Split) -> None:
    """Use what there is while a table refuses rows, and while a server is stopped."""
    split.psql(FAULTS)
    root = await sign_in(split, "root", PASSWORD, "at faults")
    invitation = await split.send("POST", "/v1/invitations", root["access_token"], role="trader")
    split.search.add("invitation at faults", invitation["code"])
    statuses = [await status for status in requests_of_all_kinds(split, root, invitation["code"])]
    assert 500 in statuses
    for server in (split.servers.redis, split.servers.postgres):
        server.kill()
        for status in requests_of_all_kinds(split, root, invitation["code"]):
            await status
        server.start()
    await eventually(lambda: is_served(split))


def requests_of_all_kinds(split: Split, root: Any, code: str) -> Iterator[Awaitable[int]]:
    async def status(*request: str, **options: Any) -> int:
        try:
            return (await split.request(*request, **options)).status_code
        except httpx.TransportError:
            return 0

    access, agent = root["access_token"], {"user-agent": "fault"}
    new = {"name": "fault-bob", "password": PASSWORD, "invitation": code}
    yield status("POST", "/v1/persons", json=new)
    yield status("POST", "/v1/sign-in", json={"name": "root", "password": PASSWORD}, headers=agent)
    yield status("POST", "/v1/sign-in/refresh", json={"refresh_token": root["refresh_token"]}, headers=agent)
    yield status("POST", "/v1/api-tokens", access, json={"name": "fault", "scopes": ["read"]})
    yield status("POST", "/v1/me/password", access, json={"password": MISTYPED, "new_password": SECOND_PASSWORD})
    yield status("POST", "/v1/stream/tickets", access)
    yield status("GET", "/v1/me", access)


async def is_served(split: Split) -> bool:
    """Whether both replicas reach the database again."""
    with suppress(httpx.TransportError):
        found = [await split.client.get(f"{split.processes[name].url}/v1/me") for name in ("api 1", "api 2")]
        signed_in = await split.request("POST", "/v1/sign-in", json={"name": "root", "password": PASSWORD})
        if signed_in.status_code == 200:
            keep_tokens(split, signed_in.json(), "after faults")
        return signed_in.status_code == 200 and all(each.status_code == 401 for each in found)
    return False


async def everything(split: Split) -> list[tuple[str, bytes]]:
    """Return all that was written, by where it is."""
    await write_down(split)
    dump = split.as_owner("pg_dump", "--inserts")
    places = [*files(split.servers.folder, split.began), *files(split.folder), ("pg_dump", dump)]
    places = [(where, without_first_code(content) if where.endswith("/log") else content) for where, content in places]
    for name, process in split.processes.items():
        for path in ("/metrics", "/openapi.json"):
            places.append((f"{path} of {name}", (await split.client.get(process.url + path)).content))
        if process.process:
            places.append((f"arguments of {name}", Path(f"/proc/{process.process.pid}/cmdline").read_bytes()))
    return [
        *places,
        ("messages", b"\n".join(split.broadcast)),
        ("errors", b"\n".join(split.errors)),
        ("commands", b"\n".join(split.logged)),
    ]


async def write_down(split: Split) -> None:
    """Let the servers write what they have in memory."""
    cache = Redis.from_url(split.env["REDIS_URL"])
    await cache.config_set("rdbcompression", "no")
    await cache.save()
    await cache.aclose()
    split.as_owner("psql", "-qc", "CHECKPOINT")
    last = f"/v1/last-{len(split.errors)}"
    await split.request("GET", last)
    await eventually(lambda: last in (split.front.folder / "log").read_text())


def without_first_code(log: bytes) -> bytes:
    return FIRST_ADMIN.sub("", log.decode(errors="surrogateescape")).encode(errors="surrogateescape")


async def plant(split: Split) -> None:
    """Leak a password in each place."""
    await split.request("GET", f"/v1/{quote(PASSWORD)}")  # into the logs of nginx and a replica
    split.psql("CREATE TABLE planted AS SELECT '" + PASSWORD.encode().hex() + "' AS leak")
    cache = Redis.from_url(split.env["REDIS_URL"])
    await cache.set("planted", base64.b64encode(PASSWORD.encode()))
    await cache.aclose()
    connection = await aio_pika.connect(split.env["RABBITMQ_URL"])
    channel = await connection.channel()
    await channel.default_exchange.publish(aio_pika.Message(PASSWORD[::-1].encode()), "planted")
    await connection.close()
    split.errors.append(repr(PASSWORD).encode())


async def test_no_secret_is_left_anywhere(tmp_path: Path) -> None:
    with private_servers() as servers:
        async with split_system(tmp_path, servers) as split:
            await use_everything(split)
            await send_nonsense(split)
            await use_during_faults(split)
            assert len(split.search.secrets) > 20
            found = split.search.leaks(await everything(split))
            assert not found, "\n".join(found)
            await plant(split)
            await eventually(lambda: any(PASSWORD[::-1].encode() in each for each in split.broadcast))
            found = split.search.leaks(await everything(split))
            for place in (
                "pg_dump",
                "postgres/data",
                ".aof",
                "dump.rdb",
                "messages",
                "front/log",
                "kurs-api",
                "errors",
            ):
                assert any(place in leak.partition(": ")[0] for leak in found), (place, found)
