"""Private servers for tests and measurements: PostgreSQL, Redis, RabbitMQ and nginx on free ports, gone at the end.

with servers.private() as here:
    print(here.postgres.url, here.redis.url, here.rabbit.url)
    here.rabbit.restart()
"""

import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from tests.servers.plain import Redis, nginx, redis
from tests.servers.postgresql import Postgres, postgres
from tests.servers.process import Missing, Server, answers, free_port, program
from tests.servers.rabbitmq import Rabbit, rabbit

__all__ = [
    "Missing",
    "Postgres",
    "Private",
    "Rabbit",
    "Redis",
    "Server",
    "answers",
    "free_port",
    "nginx",
    "private",
    "program",
]


class Private:
    """Servers that start when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Server] = []

    @cached_property
    def postgres(self) -> Postgres:
        """The one PostgreSQL."""
        server = postgres(self._room("postgres"))
        self._run(server)
        return server

    @cached_property
    def redis(self) -> Redis:
        """The one Redis."""
        server = redis(self._room("redis"))
        self._run(server)
        return server

    @cached_property
    def rabbit(self) -> Rabbit:
        """The one RabbitMQ."""
        server = rabbit(self._room("rabbit"))
        self.running.append(server.names)
        self._run(server)
        return server

    def nginx(self, config: str, port: int) -> Server:
        """One more nginx, listening on `port` as its configuration says."""
        return self._run(nginx(self._room(f"nginx{port}"), config, port))

    def stop(self) -> None:
        """End them all, the last first."""
        while self.running:
            self.running.pop().stop()

    def _room(self, name: str) -> Path:
        room = self.folder / name
        room.mkdir(exist_ok=True)
        return room

    def _run(self, server: Server) -> Server:
        self.running.append(server)
        return server.start()


@contextmanager
def private() -> Iterator[Private]:
    """Servers that end with the block, and their folder with them."""
    with tempfile.TemporaryDirectory(prefix="kurs-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user
        here = Private(Path(folder))
        with terminated_as_interrupted():
            try:
                yield here
            finally:
                here.stop()


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM is how CI and `timeout` end us: let it unwind the stack as Ctrl-C does, so that nothing runs on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
