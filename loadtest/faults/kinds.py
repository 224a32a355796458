"""Every fault that there is: what begins it, and what ends it."""

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
ONE_PROCESS = "one process"  # a Kurs of its own, on memory and SQLite


@dataclass(frozen=True)
class FaultTargets:
    """What faults happen to. `disks`: where a file system of its own is mounted, by the name of what uses it."""

    system: System
    postgres: Postgres
    rabbit: Rabbit
    supervisor: Supervisor
    clocks: Mapping[str, ShiftedClock]
    disks: Mapping[str, Path]


class FaultKind(NamedTuple):
    """One kind of fault: how long it lasts, from and to, in seconds, and the block that it lasts for."""

    seconds: tuple[float, float]
    block: Callable[[FaultTargets, str], AbstractContextManager[None]]
    restarts: bool = False  # its target is started again


@contextmanager
def killed(scene: FaultTargets, target: str) -> Iterator[None]:
    """SIGKILL."""
    with scene.supervisor.locks[target]:
        scene.supervisor.servers[target].kill()
    yield


@contextmanager
def stopped(scene: FaultTargets, target: str) -> Iterator[None]:
    """SIGSTOP: it holds its connections and answers nothing."""
    with scene.supervisor.locks[target]:
        server = scene.supervisor.servers[target]
        server.pause()
        yield
        server.resume()


@contextmanager
def restarted(scene: FaultTargets, target: str) -> Iterator[None]:
    """SIGTERM, and another start."""
    with scene.supervisor.locks[target]:
        scene.supervisor.servers[target].stop()
    yield


@contextmanager
def clock_off(seconds: float, scene: FaultTargets, target: str) -> Iterator[None]:
    """Its wall clock is set, and set right again."""
    scene.clocks[target].set(seconds)
    yield
    scene.clocks[target].set(0)


@contextmanager
def second_started(scene: FaultTargets, target: str) -> Iterator[None]:
    """Somebody starts a second one by mistake."""
    second = second_process(scene.supervisor.servers[target])
    second.launch()
    try:
        yield
    finally:
        second.stop()


@contextmanager
def disk_full(scene: FaultTargets, target: str) -> Iterator[None]:
    """No byte is left on its file system."""
    filler = scene.disks[target] / "filler"
    try:
        with filler.open("wb") as file, suppress(OSError):
            while left := _free(scene.disks[target]):
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), left)
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(scene: FaultTargets, _target: str) -> Iterator[None]:
    """The database takes no writes."""
    name = urlsplit(scene.system.database).path.strip("/")
    leave = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608  our own
    _sql(scene, f"ALTER DATABASE {name} SET default_transaction_read_only = on", leave)
    yield
    _sql(scene, f"ALTER DATABASE {name} RESET default_transaction_read_only", leave)


LOCKED = """DO $$ DECLARE name text; BEGIN
FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE tablename = 'candles' LOOP
EXECUTE 'LOCK TABLE ' || name || ' IN ACCESS EXCLUSIVE MODE'; END LOOP; PERFORM pg_sleep(600); END $$"""

HELD = """SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND pid IN
(SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO $$ DECLARE name%') LIMIT 1"""


@contextmanager
def locked(scene: FaultTargets, _target: str) -> Iterator[None]:
    """Somebody holds a lock on the candles."""
    command = [find_program("psql"), "-q", _plain(scene.system.database), "-c", LOCKED]
    with (
        ExitStack() as stack,
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as holder,  # noqa: S603
    ):
        stack.callback(holder.kill)
        deadline = time.monotonic() + 30
        while _sql(scene, HELD) != "1":
            if time.monotonic() > deadline or holder.poll() is not None:
                raise RuntimeError("no session got the lock on the candles")
            time.sleep(0.2)
        yield
        _sql(scene, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$ DECLARE name%'")


@contextmanager
def redis_full(scene: FaultTargets, _target: str) -> Iterator[None]:
    """Redis takes nothing more."""
    with Redis.from_url(scene.system.servers["redis"].url) as redis:
        redis.config_set("maxmemory", "1mb")
        yield
        redis.config_set("maxmemory", "0")


@contextmanager
def flushed(scene: FaultTargets, _target: str) -> Iterator[None]:
    """Redis has forgotten everything."""
    with Redis.from_url(scene.system.cache) as redis:
        redis.flushdb()
    yield


@contextmanager
def memory_alarm(scene: FaultTargets, _target: str) -> Iterator[None]:
    """RabbitMQ has no memory left: publishers are blocked."""
    scene.rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
    yield
    scene.rabbit.rabbitmqctl("set_vm_memory_high_watermark", "0.6")


@contextmanager
def disk_alarm(scene: FaultTargets, _target: str) -> Iterator[None]:
    """RabbitMQ has no disk left: publishers are blocked."""
    scene.rabbit.rabbitmqctl("set_disk_free_limit", "1000000GB")
    yield
    scene.rabbit.rabbitmqctl("set_disk_free_limit", "50MB")


@contextmanager
def queue_lost(command: str, scene: FaultTargets, _target: str) -> Iterator[None]:
    """An operator purges or deletes the queues that are worked on."""
    host = scene.system.broker.rpartition("/")[2]
    for name in scene.rabbit.rabbitmqctl("list_queues", "-p", host, "--no-table-headers", "name").split():
        if name.startswith("writer"):
            scene.rabbit.rabbitmqctl(command, "-p", host, name)
    yield


@contextmanager
def simulator_fault(kind: str, scene: FaultTargets, target: str) -> Iterator[None]:
    """The simulated exchange does it."""
    fault = {"exchange": target, "fault": kind}
    answer = httpx.post(f"{scene.system.simulator}/faults", json=fault, timeout=30).raise_for_status()
    yield
    httpx.delete(f"{scene.system.simulator}/faults/{answer.json()['id']}", timeout=30)


PROCESS = {
    "SIGKILL": FaultKind((0, 0), killed, restarts=True),
    "SIGSTOP": FaultKind((20, 20), stopped),
    "restart": FaultKind((0, 0), restarted, restarts=True),
}
CLOCK = {
    "clock an hour ahead": FaultKind((5, 15), partial(clock_off, HOUR)),
    "clock an hour behind": FaultKind((5, 15), partial(clock_off, -HOUR)),
    "clock a day ahead": FaultKind((5, 15), partial(clock_off, DAY)),
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
POLLED_CONNECTION = {
    name: CONNECTION[name] for name in ("kill", "mute", "garbage")
}  # what can happen where there are no sockets
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
    """Bytes that are left there."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def _sql(scene: FaultTargets, *statements: str) -> str:
    """Run them in another database of the server; answers what the last one gives."""
    text = ""
    for statement in statements:
        command = [find_program("psql"), "-qAt", _plain(scene.postgres.url), "-c", statement]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
    return text


def _plain(url: str) -> str:
    """What psql takes: it knows neither our driver nor our schema."""
    return url.replace("+asyncpg", "").partition("?")[0]
