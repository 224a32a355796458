"""Private servers for tests and measurements: PostgreSQL, Redis, RabbitMQ and nginx on free ports, gone at the end.

with servers.private_servers() as private:
    print(private.postgres.url, private.redis.url, private.rabbit.url)
    private.rabbit.restart()
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
from tests.servers.process import NotInstalled, Server, find_program, free_port, is_listening
from tests.servers.rabbitmq import Rabbit, rabbit

__all__ = [
    "NotInstalled",
    "Postgres",
    "PrivateServers",
    "Rabbit",
    "Redis",
    "Server",
    "find_program",
    "free_port",
    "is_listening",
    "nginx",
    "private_servers",
]


class PrivateServers:
    """Servers that start at their first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Server] = []

    @cached_property
    def postgres(self) -> Postgres:
        server = postgres(self._make_folder("postgres"))
        self._run(server)
        return server

    @cached_property
    def redis(self) -> Redis:
        server = redis(self._make_folder("redis"))
        self._run(server)
        return server

    @cached_property
    def rabbit(self) -> Rabbit:
        server = rabbit(self._make_folder("rabbit"))
        self.running.append(server.epmd)
        self._run(server)
        return server

    def nginx(self, config: str, port: int) -> Server:
        """Start another nginx, which listens on `port`."""
        return self._run(nginx(self._make_folder(f"nginx{port}"), config, port))

    def stop(self) -> None:
        """Stop all servers, the last one first."""
        while self.running:
            self.running.pop().stop()

    def _make_folder(self, name: str) -> Path:
        room = self.folder / name
        room.mkdir(exist_ok=True)
        return room

    def _run(self, server: Server) -> Server:
        self.running.append(server)
        return server.start()


@contextmanager
def private_servers() -> Iterator[PrivateServers]:
    """Yield servers that are stopped, with their folder deleted, when the block ends."""
    with tempfile.TemporaryDirectory(prefix="kurs-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user
        private = PrivateServers(Path(folder))
        with sigterm_as_interrupt():
            try:
                yield private
            finally:
                private.stop()


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, by which CI and `timeout` end the tests, so that servers are stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
