"""Kurs as an operator runs it: processes on the simulator, a single one or split over real servers."""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from services.adapters import sql
from services.core.markets import SIMULATED
from tests import nginx
from tests.servers import PrivateServers, Server, free_port
from tests.shifted_clock import ShiftedClock

NO_CLOCKS: Mapping[str, ShiftedClock] = MappingProxyType({})
ROOT = Path(__file__).parents[1]
# Root may write read-only files unless it lacks this capability.
UNPRIVILEGED = ("setpriv", "--bounding-set", "-dac_override") if os.getuid() == 0 and shutil.which("setpriv") else ()
# What services of a split Kurs are given; in one process it makes its own.
SPLIT_KEYS = {
    "accounts": {"KURS_MASTER_KEY": "7Rk2nhHs0TQ0uDFKKlbGyRnVhUgZNB_yTH3Fmn-1bQY"},
    "api": {"KURS_TOKEN_KEY": "mVxl8Cq3W0lXSyhz1wYB6hOBmS4mFvRrxj4JvBb2tQk"},
}
FAST_SETTINGS = {
    "KURS_STEADY_SECONDS": "3",
    "KURS_COINGECKO_POLL_SECONDS": "2",
    "API_RATE_LIMIT": "0",  # tests poll, too
}  # shorter waits than the defaults


def kurs_process(folder: Path, *arguments: str, **env: str) -> Server:
    """Return a process of Kurs, such as `kurs collector binance`, on a free port, not started yet. It reads no .env."""
    port = int(env.get("KURS_PORT", free_port()))
    host = env.get("KURS_HOST", "127.0.0.1")
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    process_folder = folder / "-".join(["kurs", *arguments, str(port)])
    process_folder.mkdir()
    inherited = [name for name in os.environ if name.startswith("KURS_")]
    keys = {name: key for word in arguments for name, key in SPLIT_KEYS.get(word, {}).items() if "RABBITMQ_URL" in env}
    return Server(
        " ".join(["kurs", *arguments]),
        url,
        process_folder,
        [sys.executable, "-m", "services", *arguments],
        ready=lambda: responds_ok(f"{url}/livez"),
        env={**dict.fromkeys(inherited, ""), "KURS_PORT": str(port), "KURS_MARKET": "simulated", **keys, **env},
    )


def second_process(process: Server) -> Server:
    """Return another process with the same arguments and settings, not started yet."""
    env = {name: value for name, value in process.env.items() if name != "KURS_PORT"}
    return kurs_process(process.folder.parent, *process.name.split()[1:], **env)


def run_command(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `kurs …` to its end. It reads no .env."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KURS_")}
    command = [*UNPRIVILEGED, sys.executable, "-m", "services", *arguments]
    env = {**inherited, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)  # noqa: S603


def refusal_line(folder: Path, *arguments: str, **env: str) -> str:
    """Return the line with which a process refuses to start."""
    run = run_command(folder, *arguments, **{"KURS_MARKET": "simulated", "KURS_PORT": str(free_port()), **env})
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("kurs: ")]
    (refusal,) = (line for line in lines if "there is no admin yet" not in line)  # of a new database
    return refusal


def responds_ok(url: str) -> bool:
    """Return whether a GET responds with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  our own http URL
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass
class System:
    """A running Kurs: its URL, its simulator, its servers, and its processes by name."""

    url: str
    simulator: str
    database: str
    cache: str = ""
    broker: str = ""
    processes: dict[str, Server] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)


@contextmanager
def single_process(
    folder: Path, env: Mapping[str, str] = FAST_SETTINGS, clock: ShiftedClock | None = None
) -> Iterator[System]:
    """Run every service in one process on SQLite. With a clock of its own, the simulator is another process."""
    processes = dict[str, Server]()
    if clock:
        processes["simulator"] = kurs_process(folder, "simulator", **env)
        env = {"KURS_SIMULATOR_URL": f"{processes['simulator'].url}/simulator", **env, **clock.env}
    process = processes["kurs"] = kurs_process(folder, **{"KURS_DATA_DIR": str(folder / "data"), **env})
    simulator = env.get("KURS_SIMULATOR_URL", f"{process.url}/simulator")
    try:
        for each in processes.values():
            each.start()
        database = f"sqlite+aiosqlite:///{folder / 'data' / 'kurs-simulated.db'}"
        yield System(process.url, simulator, database, processes=processes)
    finally:
        for each in reversed(processes.values()):
            each.stop()


@contextmanager
def distributed(
    folder: Path,
    private: PrivateServers,
    env: Mapping[str, str] = FAST_SETTINGS,
    clocks: Mapping[str, ShiftedClock] = NO_CLOCKS,
) -> Iterator[System]:
    """Run each service in its own process on RabbitMQ, Redis and PostgreSQL, with two replicas behind nginx.

    `clocks` are the wall clocks of processes that differ from the machine's, by their names in `System.processes`.
    """
    simulator = kurs_process(folder, "simulator", **env)
    urls = {
        "DATABASE_URL": private.postgres.create_database(),
        "REDIS_URL": private.redis.create_database(),
        "RABBITMQ_URL": private.rabbit.create_vhost(),
        "KURS_SIMULATOR_URL": f"{simulator.url}/simulator",
        **env,
    }
    migration = kurs_process(folder, "migrate", **urls)
    arguments = {
        **{f"collector {name}": ("collector", name) for name in ("binance", "deribit", "coingecko")},
        "pricer": ("pricer",),
        "writer": ("writer",),
        "analyst": ("analyst",),
        "accounts": ("accounts",),
        "api 1": ("api",),
        "api 2": ("api",),
    }
    own = {name: clock.env for name, clock in clocks.items()}
    processes = {name: kurs_process(folder, *line, **{**urls, **own.get(name, {})}) for name, line in arguments.items()}
    processes = {"simulator": simulator, **processes}
    balancer = None
    try:
        migration.run()
        for process in processes.values():
            process.launch()
        for process in processes.values():
            process.wait_until_ready()
        replicas = [int(processes[name].url.rpartition(":")[2]) for name in ("api 1", "api 2")]
        port = free_port()
        nginx_folder = private.folder / f"nginx{port}"  # nginx may run as another user, which cannot read `folder`
        nginx_folder.mkdir()
        balancer = nginx.start_nginx(nginx_folder, port, replicas)
        database = sql.market_url(urls["DATABASE_URL"], SIMULATED)
        servers = {"nginx": balancer, "postgres": private.postgres, "redis": private.redis, "rabbit": private.rabbit}
        cache, broker = urls["REDIS_URL"], urls["RABBITMQ_URL"]
        yield System(balancer.url, f"{simulator.url}/simulator", database, cache, broker, processes, servers)
    finally:
        for server in filter(None, [balancer, *reversed(processes.values())]):
            server.stop()
