"""The server accounts that `kurs passwords` makes for the services: they allow their work and nothing else."""

import asyncio
import importlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess, run
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from services import api, bootstrap
from services.account_changes import Origin, delete_old_credentials, new_person, register
from services.accounts.composition import make_vault
from services.accounts.registry import find_tasks
from services.adapters import sql
from services.adapters.clock import SystemClock
from services.api.accounts.composition import compose_accounts
from services.core.accounts.model import DataKey
from services.core.accounts.passwords import SALT_BYTES, hash_password
from services.core.accounts.scopes import PersonRole
from services.core.accounts.sealing import UnknownKey, open_sealed
from services.core.accounts.secret_keys import format_key, parse_keys
from services.core.errors import Misconfigured
from services.core.exchange import Exchange
from services.core.markets import SIMULATED
from services.core.model import Bar, Candle, CandleSource, HistoryRequest, Instrument, Series
from services.core.tasks import TaskFilter, TaskState
from services.core.timeframes import DAY_MS, MINUTE_MS
from services.exchanges import EXCHANGES
from services.key_files import MASTER_KEY, TOKEN_KEY, load_keys, new_key
from services.ports import Deps, Store
from services.roles import Role
from services.settings import Settings
from services.tickers import TickerPrice, Tickers
from services.web import AppSpec, create_app
from services.web.quota_policies import API, SIGN_IN
from services.web.rate_limiter import ClientRateLimiter
from services.web.server import server_config
from tests import servers
from tests.jobs import running_jobs
from tests.servers.plain import redis as redis_server
from tests.simulator import run_simulator, serve_app
from tests.system import ROOT, run_command
from tests.waiting import eventually

PAIR, ONE = Instrument("BTC", "USDT"), Decimal(1)
MINUTES = Series("binance", PAIR, "1m")
OLD_CANDLE = Candle(
    Series("binance", PAIR, "1d"),
    Bar(1_600_000_000_000 // DAY_MS * DAY_MS, ONE, ONE, ONE, ONE, ONE, ONE, 1),
    True,
    CandleSource.EXCHANGE,
)


KEYS = {"accounts": "master_key", "api": "token_key"}  # the settings of the services that have one


@dataclass
class ServiceAccounts:
    """The folder that `kurs passwords` wrote, and the addresses of the servers that use it."""

    folder: Path
    server_urls: dict[str, str]  # host and port, by the host that stands in the URLs
    database: str

    def url(self, service: str, server: str) -> str:
        """Return the URL in the service's folder with the server's true address."""
        parts = urlsplit((self.folder / service / server).read_text().strip())
        path = self.database if server == "database" else parts.path
        return f"{parts.scheme}://{parts.username}:{parts.password}@{self.server_urls[parts.hostname or '']}{path}"

    def key(self, service: str) -> SecretStr:
        """Return the key in a service's folder."""
        return SecretStr((self.folder / service / KEYS[service].replace("_", "-")).read_text().strip())


@pytest.fixture(scope="module")
def accounts(
    tmp_path_factory: pytest.TempPathFactory, postgres: servers.Postgres, rabbit: servers.Rabbit
) -> Iterator[ServiceAccounts]:
    folder = tmp_path_factory.mktemp("accounts")
    made = run_command(folder, "passwords", str(folder / "made"))
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    rabbit.rabbitmqctl("import_definitions", str(folder / "made/rabbitmq/definitions.json"))
    url = postgres.create_database()
    asyncio.run(create_single_user_database(url))
    roles = {"KURS_DATABASE_ROLES_FILE": str(folder / "made/migrate/roles"), "KURS_MARKET": SIMULATED}
    for _ in range(2):
        migrated = run_command(folder, "migrate", DATABASE_URL=url, **roles)
        assert migrated.returncode == 0, migrated.stderr
    cache = redis_server(folder, "--aclfile", str(folder / "made/redis/users.acl"))
    cache.start()
    places = {
        "postgres": urlsplit(url).netloc.rpartition("@")[2],
        "redis": urlsplit(cache.url).netloc,
        "rabbitmq": urlsplit(rabbit.url).netloc.rpartition("@")[2],
    }
    yield ServiceAccounts(folder / "made", places, urlsplit(url).path)
    cache.stop()


async def create_single_user_database(url: str) -> None:
    """Create a database with all rows written by one user."""
    address = sql.market_url(url, SIMULATED)
    await sql.migrate(address, SIMULATED)
    store = await sql.connect(address, SIMULATED)
    await store.save(OLD_CANDLE)
    await store.close()


@asynccontextmanager
async def run_services(accounts: ServiceAccounts, exchange: Exchange, *names: str) -> AsyncIterator[dict[str, Deps]]:
    """Run services, each with its own accounts, until the block ends."""
    async with AsyncExitStack() as stack:
        deps: dict[str, Deps] = {}
        jobs = list[Coroutine[Any, Any, None]]()
        for name in names:
            urls: dict[str, Any] = {
                "DATABASE_URL": "bus://" if name == "collector" else accounts.url(name, "database"),
                "REDIS_URL": accounts.url(name, "redis"),
                "RABBITMQ_URL": accounts.url(name, "rabbitmq"),
            }
            keys: dict[str, Any] = {KEYS[name]: accounts.key(name)} if name in KEYS else {}
            known = Settings(
                _env_file=None, directions=(PAIR,), symbols=(PAIR,), history_bars=30, steady_seconds=1, **urls, **keys
            )
            deps[name] = await bootstrap.open_adapters(known, SIMULATED, (exchange,), stack, owns=False)
            jobs += service_jobs(name, deps[name])
        async with running_jobs(*jobs):
            yield deps


def service_jobs(name: str, deps: Deps) -> Iterator[Coroutine[Any, Any, None]]:
    service = importlib.import_module(f"services.{name}")
    if name == "api":
        limiter = ClientRateLimiter(settings=deps.settings, clock=deps.clock, cache=deps.cache)
        limiter.charge(API, "203.0.113.7")
        yield limiter.sync()
        yield sign_in(limiter)
    if hasattr(service, "ROLE"):
        yield Role(service.ROLE, service.JOBS, deps, writes="store" in getattr(service, "NEEDS", ())).run()
    else:
        yield from (job(deps) for job in service.JOBS)


async def sign_in(limiter: ClientRateLimiter) -> None:
    charge = await limiter.attempt(SIGN_IN, "203.0.113.7")
    assert charge
    await charge.forgive()
    await asyncio.Event().wait()  # a job that ends is a failure


async def test_services_work_with_their_own_accounts(
    accounts: ServiceAccounts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = SystemClock().now()
    monkeypatch.setattr("services.core.history_depth.EARLIEST_CANDLE_MS", now - 70 * DAY_MS)
    async with (
        run_simulator() as market,
        run_services(
            accounts, market.exchange("binance"), "collector", "pricer", "writer", "analyst", "accounts", "api"
        ) as deps,
    ):
        reader: Store = deps["api"].store
        await eventually(lambda: deps["analyst"].store.indicator_values(MINUTES, 0, now + DAY_MS))
        await eventually(lambda: reader.analyses(MINUTES, 0, now + DAY_MS))
        await eventually(reader.rates)
        await eventually(deps["api"].cache.active_exchange)

        async def journaled() -> bool:
            topics = ("rates", "choice", "state:binance", "candle:binance:BTC-USDT:1m")
            return all(await deps["api"].journal.latest(*topics))

        async def loaded() -> bool:
            state = deps["api"].hub.exchange_statuses.get("binance")
            return bool(state and state.backfill and not state.backfill.missing)

        await eventually(journaled)
        await eventually(loaded)
        await deps["api"].bus.publish(HistoryRequest(MINUTES, now - 90 * MINUTE_MS, now - 80 * MINUTE_MS, 60))
        assert OLD_CANDLE in await reader.candles(OLD_CANDLE.series, OLD_CANDLE.bar.open_time, OLD_CANDLE.bar.open_time)
        assert await reader.count_dead_letters() == 0
        for name, each in deps.items():
            for part in (each.bus, each.cache, each.journal):
                await part.ping()
            await each.store.check()
            if name in ("writer", "analyst"):
                await each.store.check_writable()
        assert not await deps["writer"].store.delete_candles(MINUTES, now + DAY_MS)
        await check_tasks(deps["accounts"], deps["api"])
        await check_all_paths(deps["api"])
        await check_people(deps["api"], deps["accounts"], deps["writer"])
        async with deps["writer"].bus.take_dead_letters("writer", now) as dead:
            assert not dead
        await check_standby_status(accounts, market.exchange("binance"))
    refused = [record.getMessage() for record in caplog.records if "rights" in record.getMessage()]
    assert not refused


REQUEST_PATHS = (
    *("v1/courses", "v2/courses", "v1/directions", "v1/exchanges", "udf/config", "udf/symbols?symbol=BTCUSDT"),
    *("api/chart-data?symbol=BTCUSDT&timeframe=1m", "api/candles/coverage?symbol=BTCUSDT&timeframe=1m"),
    *("api/candles/coverage", "api/indicators?symbol=BTCUSDT&timeframe=1m&indicators=sma:5", "udf/search?query=BTC"),
    *("api/analysis?symbol=BTCUSDT&timeframe=1m", "api/analysis/BTCUSDT/multi"),
    f"udf/history?symbol=BTCUSDT&resolution=1&to={2**31}&countback=10",
    *("v1/stream/history?channels=btc_usdt", "v1/instruments"),
)


async def check_tasks(working: Deps, served: Deps) -> None:
    """Check that periodic tasks succeed, and that tasks read from the cache what the API has written there."""
    periodic = {name for name, spec in find_tasks().items() if spec.every_seconds}

    async def succeeded() -> bool:
        async with served.accounts.transaction() as tx:
            return periodic <= {task.name for task in await tx.tasks.find(TaskFilter(state=TaskState.SUCCEEDED), 99)}

    await eventually(succeeded)
    await served.cache.set("ticker:wanted:btc_usd", b"1", 60)
    assert await working.cache.get("ticker:wanted:btc_usd") == [b"1"]
    await working.cache.set("pause:binance", b"429", 60)
    await working.cache.set("ticker:price:btc_usd", b"2", 60)
    assert await served.cache.get("ticker:price:btc_usd") == [b"2"]


async def check_all_paths(deps: Deps) -> None:
    """Request every path twice, the second time from the cache."""
    site = AppSpec(api.ROUTERS, api.endpoints(deps), api.CHECKS(deps), frozenset())
    async with serve_app(create_app(deps, site), server_config) as address, httpx.AsyncClient(timeout=30) as client:
        for path in REQUEST_PATHS * 2:
            answer = await client.get(f"http://{address}/{path}")
            assert answer.status_code == 200, (path, answer.text)


async def check_people(served: Deps, working: Deps, writing: Deps) -> None:
    """Do with each account what people, tasks and commands do."""
    composed = api.compose(served)
    site = AppSpec(api.ROUTERS, composed.endpoints, authenticator=composed.authenticator)
    async with serve_app(create_app(served, site), server_config) as address:
        client = httpx.AsyncClient(base_url=f"http://{address}", timeout=30)
        async with client:
            await check_requests_of_people(client, served, working)
    async with served.accounts.transaction() as tx:
        await delete_old_credentials(tx, served.clock.now())
    async with working.accounts.transaction() as tx:
        await delete_old_credentials(tx, working.clock.now())
        await tx.audit.trim(0, working.clock.now())
        await tx.tasks.delete_finished(0, 10)
    await check_tickers(served, working)
    async with writing.accounts.transaction() as tx:
        assert await tx.audit.read_after(0, 10)
    await compose_accounts(served).signing_keys.rotate(at_once=False)
    assert (await make_vault(working).reseal()).resealed == 0


async def check_requests_of_people(client: httpx.AsyncClient, served: Deps, working: Deps) -> None:
    password, now = "correct horse battery staple", served.clock.now()
    admin = new_person("root", hash_password(password, bytes(SALT_BYTES)), PersonRole.ADMIN, now)
    async with served.accounts.transaction() as tx:
        await register(tx, admin, Origin(now))
    tokens = await responded(client, "POST", "/v1/sign-in", json={"name": "root", "password": password})
    head = {"authorization": f"Bearer {tokens['access_token']}"}
    invited = await responded(client, "POST", "/v1/invitations", headers=head, json={})
    ann = {"name": "ann", "password": password}
    person = await responded(client, "POST", "/v1/persons", json={**ann, "invitation": invited["code"]})
    for action in ("disable", "enable"):
        await responded(client, "POST", f"/v1/persons/{person['id']}/{action}", headers=head)
    await responded(client, "GET", "/v1/persons", headers=head)
    await responded(client, "GET", "/v1/invitations", headers=head)
    await responded(client, "GET", "/v1/audit", headers=head)

    async def data_key() -> DataKey | None:
        async with working.accounts.transaction() as tx:
            return await tx.keys.data_key(person["id"])

    await eventually(data_key)
    tokens = await responded(client, "POST", "/v1/sign-in", json=ann)
    tokens = await responded(client, "POST", "/v1/sign-in/refresh", json={"refresh_token": tokens["refresh_token"]})
    head = {"authorization": f"Bearer {tokens['access_token']}"}
    made = await responded(client, "POST", "/v1/api-tokens", headers=head, json={"name": "bot", "scopes": ["read"]})
    await responded(client, "GET", "/v1/me", headers={"authorization": f"Bearer {made['token']}"})
    await responded(client, "POST", "/v1/stream/tickets", headers=head)
    for path in ("/v1/me", "/v1/api-tokens", "/v1/sign-ins", "/v1/audit", "/.well-known/jwks.json"):
        await responded(client, "GET", path, headers=head)
    change = {"password": password, "new_password": f"{password} 2"}
    await responded(client, "POST", "/v1/me/password", headers=head, json=change)
    await responded(client, "DELETE", f"/v1/api-tokens/{made['id']}", headers=head)
    await responded(client, "DELETE", "/v1/me", headers=head, json={"password": change["new_password"]})
    assert await data_key() is None  # though the API has no right on it


async def check_tickers(served: Deps, working: Deps) -> None:
    deribit, instrument = EXCHANGES["deribit"], Instrument("BTC", "USD")
    wanting, requesting = (Tickers(deps.cache, [(deribit, [instrument])]) for deps in (served, working))
    await wanting.want("btc_usd")
    assert await requesting.wanted() == [(deribit, instrument)]
    await requesting.put(TickerPrice(exchange="deribit", instrument=instrument, price=ONE, time=working.clock.now()))
    assert await wanting.price("btc_usd")

    async def refreshed() -> bool:
        return bool(await served.store.trading_rules())

    await eventually(refreshed)


async def responded(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
    response = await client.request(method, path, **options)
    assert response.is_success, (method, path, response.text)
    return response.json() if response.content else None


async def test_api_serves_people_and_cannot_open_what_they_entrusted(accounts: ServiceAccounts) -> None:
    """It has the token key alone. Even with all rows of the database, it has no key that opens one."""
    unreachable = EXCHANGES["binance"].simulated_at("http://127.0.0.1:9/simulator")
    async with run_services(accounts, unreachable, "writer", "accounts", "api") as deps:
        served, working = deps["api"], deps["accounts"]
        now = served.clock.now()
        person = new_person(f"p{now}", hash_password("correct horse", bytes(SALT_BYTES)), PersonRole.TRADER, now)
        async with served.accounts.transaction() as tx:
            await register(tx, person, Origin(now))
        async with working.accounts.transaction() as tx:
            sealed = await make_vault(working).seal(tx, person.id, "binance", b"secret")
            row = await tx.keys.data_key(person.id)
            assert await make_vault(working).open(tx, person.id, "binance", sealed) == b"secret"
        assert row
        composed = api.compose(served)
        site = AppSpec(api.ROUTERS, composed.endpoints, authenticator=composed.authenticator)
        async with serve_app(create_app(served, site), server_config) as address, httpx.AsyncClient() as client:
            signed_in = {"name": person.name, "password": "correct horse"}
            tokens = await responded(client, "POST", f"http://{address}/v1/sign-in", json=signed_in)
            head = {"authorization": f"Bearer {tokens['access_token']}"}
            assert (await responded(client, "GET", f"http://{address}/v1/me", headers=head))["name"] == person.name
    assert not served.settings.master_key.get_secret_value()
    with pytest.raises(Misconfigured, match="KURS_MASTER_KEY is missing"):
        load_keys(served.settings, MASTER_KEY)
    for text, context in ((row.sealed, ("data_key", person.id)), (sealed, ("secret", person.id, "binance"))):
        with pytest.raises(UnknownKey):
            open_sealed(load_keys(served.settings, TOKEN_KEY), text, context)
    url = accounts.url("api", "database").replace("+asyncpg", "")
    connection = await asyncpg.connect(url, server_settings={"search_path": SIMULATED})
    for table in ("data_keys", "master_keys"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608
    await connection.close()


async def check_standby_status(accounts: ServiceAccounts, exchange: Exchange) -> None:
    """Check that a standby gets the holder's name over the bus."""
    holder: list[str] = []
    async with AsyncExitStack() as stack:
        urls: dict[str, Any] = {"DATABASE_URL": "bus://", "RABBITMQ_URL": accounts.url("pricer", "rabbitmq")}
        known = Settings(_env_file=None, **urls)
        second = await bootstrap.open_adapters(known, SIMULATED, (exchange,), stack, owns=False)

        async def wait_for_role() -> None:
            async with second.bus.hold_role("pricer", holder.append):
                raise AssertionError("two processes have the role")

        waiting = asyncio.create_task(wait_for_role())
        await eventually(lambda: holder)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert holder[0].startswith("process ")


STATEMENTS = [
    *("INSERT INTO rates VALUES ('BTC-USD', 1, '{}')", "UPDATE candles SET open = 1", "DELETE FROM indicators"),
    *("DELETE FROM candles", "TRUNCATE candles", "DROP TABLE candles", "CREATE TABLE mine (x int)"),
    *("CREATE TEMPORARY TABLE mine (x int)", "SELECT body FROM dead_letters", "SELECT FROM candles_2026"),
    *("DELETE FROM market", "UPDATE alembic_version SET version_num = ''", "SELECT pg_read_file('/etc/passwd')"),
    *("SELECT rolpassword FROM pg_authid", "CREATE ROLE mine", "SELECT FROM seals", "SELECT FROM cursors"),
]
TABLES_OF_PEOPLE = ("persons", "invitations", "sign_ins", "api_tokens", "signing_keys", "master_keys", "data_keys")
FORBIDDEN_STATEMENTS = {
    "pricer": ["SELECT FROM gaps", "SELECT FROM candles", "SELECT FROM indicators", "SELECT FROM holes"],
    "analyst": ["INSERT INTO rates VALUES ('BTC-USD', 1, '{}')", "INSERT INTO dead_letters DEFAULT VALUES"],
    "api": [
        *("SELECT FROM indicators", "SELECT FROM data_keys", "DELETE FROM data_keys", "SELECT FROM master_keys"),
        *("UPDATE audit SET actor = ''", "DELETE FROM audit", "DELETE FROM tasks"),
    ],
    "accounts": [
        *("SELECT FROM signing_keys", "SELECT FROM candles", "SELECT FROM rates", "UPDATE audit SET actor = ''"),
        *("DELETE FROM persons", "UPDATE persons SET role = 'admin'", "INSERT INTO persons DEFAULT VALUES"),
        *("INSERT INTO api_tokens DEFAULT VALUES", "UPDATE sign_ins SET revoked_at = NULL"),
    ],
    "writer": ["INSERT INTO analysis DEFAULT VALUES", "UPDATE indicators SET value = '{}'", "DELETE FROM gaps"],
}
ALLOWED_STATEMENTS = {
    "writer": {"INSERT INTO rates VALUES ('BTC-USD', 1, '{}')", *STATEMENTS[1:4], *STATEMENTS[8:9], *STATEMENTS[15:]},
    "analyst": {"DELETE FROM indicators"},
}


@pytest.mark.parametrize("service", ["pricer", "writer", "analyst", "accounts", "api"])
async def test_postgresql_refuses_every_other_statement(accounts: ServiceAccounts, service: str) -> None:
    url = accounts.url(service, "database").replace("+asyncpg", "")
    connection = await asyncpg.connect(url, server_settings={"search_path": SIMULATED})
    try:
        of_people = [] if service in KEYS else [f"SELECT FROM {table}" for table in (*TABLES_OF_PEOPLE, "tasks")]
        for statement in [*STATEMENTS, *FORBIDDEN_STATEMENTS.get(service, ()), *of_people]:
            if statement not in ALLOWED_STATEMENTS.get(service, ()):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
    finally:
        await connection.close()


async def assert_refused(
    accounts: ServiceAccounts, service: str, attempt: Callable[[AbstractChannel], Awaitable[object]]
) -> None:
    """Check that an attempt is refused. It gets its own connection, because a refusal closes the channel."""
    connection = await aio_pika.connect(accounts.url(service, "rabbitmq"))
    async with connection:
        channel = await connection.channel()
        with pytest.raises(ChannelAccessRefused):
            await attempt(channel)


@pytest.mark.parametrize(
    ("service", "published", "bound"),
    [
        (
            "collector",
            ("candle", "rate", "choice", "reading", "store_reply", "role.pricer", "high"),
            ("tick", "trade", "#"),
        ),
        ("pricer", ("tick", "kline", "candle", "state", "store_query"), ("trade", "candle", "#")),
        ("writer", ("tick", "rate", "state", "reading"), ("tick", "#")),
        ("analyst", ("candle", "kline", "rate"), ("trade", "rate", "#")),
        ("api", ("rate", "candle", "kline", "state", "store_query"), ("trade", "store_reply", "high", "#")),
        ("accounts", ("rate", "candle", "kline", "trade"), ("trade", "rate", "#")),
    ],
)
async def test_rabbitmq_refuses_every_other_message_and_queue(
    accounts: ServiceAccounts, service: str, published: tuple[str, ...], bound: tuple[str, ...]
) -> None:
    owner = await aio_pika.connect(accounts.url("writer", "rabbitmq"))
    async with owner:
        channel = await owner.channel()
        await channel.declare_exchange("kurs", aio_pika.ExchangeType.TOPIC, durable=True)
        await channel.declare_queue("writer-simulated", passive=True)
    for kind in published:
        await assert_refused(accounts, service, partial(publish, "kurs", f"{kind}.all"))
    for kind in bound:
        await assert_refused(accounts, service, partial(bind, "#" if kind == "#" else f"{kind}.#"))
    others = "role.analyst" if service != "analyst" else "role.pricer"
    await assert_refused(accounts, service, lambda channel: channel.declare_queue(others, exclusive=True))
    await assert_refused(
        accounts, service, lambda channel: channel.declare_exchange("mine", aio_pika.ExchangeType.FANOUT)
    )
    if service not in ("writer", "accounts"):
        await assert_refused(accounts, service, partial(publish, "", "writer-simulated"))
        await assert_refused(accounts, service, partial(consume_queue, "tasks.high-simulated"))
    if service != "writer":
        await assert_refused(accounts, service, partial(consume_queue, "writer-simulated"))
        await assert_refused(accounts, service, lambda channel: channel.queue_delete("writer-simulated"))


async def publish(exchange: str, key: str, channel: AbstractChannel) -> None:
    to = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    await to.publish(aio_pika.Message(b"[]"), key)


async def bind(key: str, channel: AbstractChannel) -> None:
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind("kurs", key)


async def consume_queue(name: str, channel: AbstractChannel) -> None:
    await (await channel.get_queue(name, ensure=False)).get(fail=False)


@pytest.mark.parametrize(
    ("service", "commands"),
    [
        (
            "collector",
            ("HGET rate:{BTC-USD} body", "DEL count:{quota}:1", "SET candles:x 1", "XTRIM journal:{rates} MAXLEN 0"),
        ),
        ("pricer", ("DEL count:{history}", "XADD journal:{state:binance} * a b", "GET candles:x")),
        ("writer", ("HSET rate:{BTC-USD} body 1", "DEL journal:{rates}", "EVAL return 0")),
        ("analyst", ("DEL journal:{candle:binance:BTC-USDT:1m}", "SMEMBERS rates")),
        ("accounts", ("GETDEL ticket:x", "MGET ticket:x", "SET ticker:wanted:x 1", "SMEMBERS rates", "EVAL 1 0")),
        ("api", ("SET rate:{BTC-USD} 1", "DEL states", "XADD journal:{rates} * a b", "DEL count:{history}")),
        ("", ("GET rates", "SET probe 1", "SCAN 0", "PUBLISH a b")),
    ],
)
async def test_redis_refuses_every_other_command(
    accounts: ServiceAccounts, service: str, commands: tuple[str, ...]
) -> None:
    url = accounts.url(service or "api", "redis")
    if not service:
        url = f"redis://{url.rpartition('@')[2]}"
    redis: Any = Redis.from_url(url)
    assert await redis.ping()
    for each in (*commands, "KEYS *", "FLUSHALL", "CONFIG GET *", "ACL LIST", "SHUTDOWN", "MONITOR"):
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*each.split())
    await redis.aclose()


def test_new_folder_of_passwords_is_open_to_its_user_alone(tmp_path: Path) -> None:
    """Its files are for the users of containers. An existing folder keeps its rights."""
    made, given = tmp_path / "made", tmp_path / "given"
    given.mkdir()
    given.chmod(0o755)
    for folder in (made, given):
        assert run_command(tmp_path, "passwords", str(folder)).returncode == 0
    assert (made.stat().st_mode & 0o777, given.stat().st_mode & 0o777) == (0o700, 0o755)


def test_rotation_replaces_all_passwords_and_redis_accepts_the_last_ones_for_a_while(tmp_path: Path) -> None:
    def files() -> dict[str, str]:
        return {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}

    def hashes() -> dict[str, set[str]]:
        lines = [line.split() for line in files()["redis/users.acl"].splitlines()]
        return {line[1]: {word for word in line if word.startswith("#")} for line in lines}

    urls = [
        f"{name}/{server}"
        for name in ("pricer", "writer", "analyst", "accounts", "api")
        for server in ("database", "redis", "rabbitmq")
    ]
    urls += ["collector/redis", "collector/rabbitmq", "migrate/database", "postgres/password"]
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/password").write_text("of an earlier version\n")
    (tmp_path / "postgres/url").write_text("postgresql+asyncpg://kurs:of an earlier version@postgres/kurs\n")
    assert run_command(tmp_path, "passwords", str(tmp_path)).returncode == 0
    first, first_hashes = files(), hashes()
    assert "postgres/url" not in first
    assert first["postgres/password"] == "of an earlier version\n"
    assert not [name for name in first if name.startswith("collector/") and "database" in name]
    keys = {"accounts/master-key", "api/token-key"}
    assert {name for name in first if name.endswith("-key")} == keys
    assert not set(parse_keys(first["accounts/master-key"])) & set(parse_keys(first["api/token-key"]))

    assert run_command(tmp_path, "passwords", str(tmp_path)).returncode == 0
    assert {name: files()[name] for name in urls} == {name: first[name] for name in urls}

    assert run_command(tmp_path, "passwords", str(tmp_path), "--rotate").returncode == 0
    assert not [name for name in urls if files()[name] == first[name]]
    assert all(first_hashes[name] < hashes()[name] for name in first_hashes if name != "default")
    assert run_command(tmp_path, "passwords", str(tmp_path)).returncode == 0
    assert not any(first_hashes[name] & hashes()[name] for name in first_hashes if name != "default")
    assert {name: files()[name] for name in keys} == {name: first[name] for name in keys}


def test_key_is_replaced_in_two_steps_and_dropped_by_its_name_only(tmp_path: Path) -> None:
    def keys(service: str = "accounts", name: str = "master-key") -> list[str]:
        return [key.id for key in parse_keys((tmp_path / service / name).read_text())]

    def passwords(*words: str) -> CompletedProcess[str]:
        return run_command(tmp_path, "passwords", str(tmp_path), *words)

    passwords()
    (first,), token_keys = keys(), keys("api", "token-key")
    added = passwords("--new-key", "master")
    (second, former) = keys()
    assert former == first
    assert f"{second} comes first now, before {first}" in added.stdout
    for wrong in (second, "00000000", token_keys[0]):
        refused = passwords("--drop-key", wrong)
        assert (refused.returncode, "there is no former key" in refused.stderr) == (2, True)
    assert keys() == [second, first]
    assert passwords("--drop-key", first).returncode == 0
    assert keys() == [second]
    restored = new_key()
    for _ in range(2):
        command = [sys.executable, "-m", "services", "passwords", str(tmp_path), "--add-key", "master"]
        run(command, input=format_key(restored), text=True, check=True, cwd=ROOT, capture_output=True)  # noqa: S603
        assert keys() == [second, restored.id]
    passwords("--drop-key", restored.id)
    assert keys("api", "token-key") == token_keys
    (tmp_path / "accounts/master-key").write_text("hunter2\n")
    damaged = passwords()
    assert (damaged.returncode, "32 random bytes" in damaged.stderr, "hunter2" in damaged.stderr) == (2, True, False)
