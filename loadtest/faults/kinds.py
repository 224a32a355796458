"""All kinds of faults: how each begins and ends."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from redis import Redis

from loadtest.faults.supervisor import Supervisor
from tests.servers import Postgres, Rabbit, find_program
from tests.shifted_clock import ShiftedClock
from tests.system import System, second_process

HOUR, DAY = 3_600, 86_400  # seconds
ONE_PROCESS = "one process"  # all services in a single process with SQLite


@dataclass(frozen=True)
class FaultTargets:
    """The processes and servers that faults act on. `disks`: mounted file systems, by the target that uses each."""

    system: System
    postgres: Postgres
    rabbit: Rabbit
    supervisor: Supervisor
    clocks: Mapping[str, ShiftedClock]
    disks: Mapping[str, Path]


class FaultKind(NamedTuple):
    """One kind of fault: the range of its duration, and a block during which it lasts."""

    seconds: tuple[float, float]
    block: Callable[[FaultTargets, str], AbstractContextManager[None]]
    restarts: bool = False  # whether the supervisor starts its target again


@contextmanager
def killed(targets: FaultTargets, target: str) -> Iterator[None]:
    """End the target by SIGKILL."""
    with targets.supervisor.locks[target]:
        targets.supervisor.servers[target].kill()
    yield


@contextmanager
def paused(targets: FaultTargets, target: str) -> Iterator[None]:
    """Stop the target by SIGSTOP, so that it keeps its connections and does not respond."""
    with targets.supervisor.locks[target]:
        server = targets.supervisor.servers[target]
        server.pause()
        yield
        server.resume()


@contextmanager
def restarted(targets: FaultTargets, target: str) -> Iterator[None]:
    """End the target by SIGTERM, after which the supervisor starts it again."""
    with targets.supervisor.locks[target]:
        targets.supervisor.servers[target].stop()
    yield


@contextmanager
def clock_set(seconds: float, targets: FaultTargets, target: str) -> Iterator[None]:
    """Set the target's wall clock, and correct it at the end."""
    targets.clocks[target].set(seconds)
    yield
    targets.clocks[target].set(0)


@contextmanager
def second_started(targets: FaultTargets, target: str) -> Iterator[None]:
    """Start a second process of the target, as by mistake."""
    second = second_process(targets.supervisor.servers[target])
    second.launch()
    try:
        yield
    finally:
        second.stop()


@contextmanager
def disk_full(targets: FaultTargets, target: str) -> Iterator[None]:
    """Fill the target's file system."""
    filler = targets.disks[target] / "filler"
    try:
        with filler.open("wb") as file, suppress(OSError):
            while left := _free(targets.disks[target]):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), left)
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(targets: FaultTargets, _target: str) -> Iterator[None]:
    """Make the database read-only."""
    name = urlsplit(targets.system.database).path.strip("/")
    disconnect_all = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608  our own
    _sql(targets, f"ALTER DATABASE {name} SET default_transaction_read_only = on", disconnect_all)
    yield
    _sql(targets, f"ALTER DATABASE {name} RESET default_transaction_read_only", disconnect_all)


LOCKED = """DO $$ DECLARE name text; BEGIN
FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE tablename = 'candles' LOOP
EXECUTE 'LOCK TABLE ' || name || ' IN ACCESS EXCLUSIVE MODE'; END LOOP; PERFORM pg_sleep(600); END $$"""

HELD = """SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND pid IN
(SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO $$ DECLARE name%') LIMIT 1"""


@contextmanager
def locked(targets: FaultTargets, _target: str) -> Iterator[None]:
    """Hold a lock on the candles."""
    command = [find_program("psql"), "-q", _psql_url(targets.system.database), "-c", LOCKED]
    with (
        ExitStack() as stack,
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as holder,  # noqa: S603
    ):
        stack.callback(holder.kill)
        deadline = time.monotonic() + 30
        while _sql(targets, HELD) != "1":
            if time.monotonic() > deadline or holder.poll() is not None:
                raise RuntimeError("no session got the lock on the candles")
            time.sleep(0.2)
        yield
        _sql(targets, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$ DECLARE name%'")


@contextmanager
def redis_full(targets: FaultTargets, _target: str) -> Iterator[None]:
    """Limit the memory of Redis, so that it rejects writes."""
    with Redis.from_url(targets.system.servers["redis"].url) as redis:
        redis.config_set("maxmemory", "1mb")
        yield
        redis.config_set("maxmemory", "0")


@contextmanager
def flushed(targets: FaultTargets, _target: str) -> Iterator[None]:
    """Delete all keys of Redis."""
    with Redis.from_url(targets.system.cache) as redis:
        redis.flushdb()
    yield


@contextmanager
def memory_alarm(targets: FaultTargets, _target: str) -> Iterator[None]:
    """Raise the memory alarm of RabbitMQ, which blocks publishers."""
    targets.rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
    yield
    targets.rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.6")


@contextmanager
def disk_alarm(targets: FaultTargets, _target: str) -> Iterator[None]:
    """Raise the disk alarm of RabbitMQ, which blocks publishers."""
    targets.rabbit.rabbitmqctl("set_disk_free_limit", "1000000GB")
    yield
    targets.rabbit.rabbitmqctl("set_disk_free_limit", "50MB")


@contextmanager
def queue_lost(command: str, targets: FaultTargets, _target: str) -> Iterator[None]:
    """Purge or delete the queues of the writer, as an operator could."""
    host = targets.system.broker.rpartition("/")[2]
    for name in targets.rabbit.rabbitmqctl("list_queues", "-p", host, "--no-table-headers", "name").split():
        if name.startswith("writer"):
            targets.rabbit.rabbitmqctl(command, "-p", host, name)
    yield


@contextmanager
def simulator_fault(kind: str, targets: FaultTargets, target: str) -> Iterator[None]:
    """Inject a fault of a simulated exchange."""
    fault = {"exchange": target, "fault": kind}
    answer = httpx.post(f"{targets.system.simulator}/faults", json=fault, timeout=30).raise_for_status()
    yield
    httpx.delete(f"{targets.system.simulator}/faults/{answer.json()['id']}", timeout=30)


PROCESS = {
    "SIGKILL": FaultKind((0, 0), killed, restarts=True),
    "SIGSTOP": FaultKind((20, 20), paused),
    "restart": FaultKind((0, 0), restarted, restarts=True),
}
CLOCK = {
    "clock an hour ahead": FaultKind((5, 15), partial(clock_set, HOUR)),
    "clock an hour behind": FaultKind((5, 15), partial(clock_set, -HOUR)),
    "clock a day ahead": FaultKind((5, 15), partial(clock_set, DAY)),
}
SECOND_PROCESS = {"a second one": FaultKind((15, 30), second_started)}
DISK = {"disk full": FaultKind((10, 20), disk_full)}
CONNECTION = {
    name: FaultKind(seconds, partial(simulator_fault, name))
    for name, seconds in {
        "drop": (0, 0),
        "kill": (2, 20),
        "mute": (5, 20),
        "garbage": (2, 20),
        "shutdown": (0, 0),
        "duplicate": (5, 30),
        "reorder": (5, 30),
    }.items()
}
POLLED_CONNECTION = {name: CONNECTION[name] for name in ("kill", "mute", "garbage")}  # of an exchange without sockets
KINDS: Mapping[str, Mapping[str, FaultKind]] = {
    **{f"collector {name}": PROCESS | CLOCK for name in ("binance", "deribit", "coingecko")},
    **dict.fromkeys(("pricer", "writer", "analyst"), PROCESS | CLOCK | SECOND_PROCESS),
    **dict.fromkeys(("api 1", "api 2"), PROCESS | CLOCK),
    ONE_PROCESS: PROCESS | CLOCK | SECOND_PROCESS | DISK,
    "postgres": PROCESS
    | DISK
    | {"read-only": FaultKind((10, 20), read_only), "candles locked": FaultKind((60, 60), locked)},
    "redis": PROCESS | {"full": FaultKind((10, 20), redis_full), "flushed": FaultKind((0, 0), flushed)},
    "rabbit": PROCESS
    | {
        "memory alarm": FaultKind((10, 20), memory_alarm),
        "disk alarm": FaultKind((10, 20), disk_alarm),
        "queue purged": FaultKind((0, 0), partial(queue_lost, "purge_queue")),
        "queue deleted": FaultKind((0, 0), partial(queue_lost, "delete_queue")),
    },
    "binance": CONNECTION,
    "deribit": CONNECTION,
    "coingecko": POLLED_CONNECTION,
}


def _free(folder: Path) -> int:
    """Return the free bytes of a file system."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def _sql(targets: FaultTargets, *statements: str) -> str:
    """Run statements in another database of the server. Return the output of the last one."""
    text = ""
    for statement in statements:
        command = [find_program("psql"), "-qAt", _psql_url(targets.postgres.url), "-c", statement]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
    return text


def _psql_url(url: str) -> str:
    """Return the URL for psql, without the driver and the schema."""
    return url.replace("+asyncpg", "").partition("?")[0]
