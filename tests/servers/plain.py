"""Servers that need no more than a process: Redis and nginx."""

import itertools
from pathlib import Path

from tests.servers.process import Server, find_program, free_port, is_listening


class Redis(Server):
    """A Redis of our own. Each who asks gets a database of their own in it."""

    databases = itertools.count(1)

    def create_database(self) -> str:
        """A new, empty database's URL."""
        return self.url.removesuffix("0") + str(next(self.databases))


def redis(folder: Path, *options: str) -> Redis:
    """A Redis that keeps what it holds."""
    port = free_port()
    command = [find_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "yes", "--databases", "1000", *options]
    return Redis(
        "Redis",
        f"redis://127.0.0.1:{port}/0",
        folder,
        command,
        ready=lambda: is_listening(port, b"PING\r\n", b"+PONG"),
    )


def nginx(folder: Path, config: str, port: int) -> Server:
    """An nginx with that configuration, which listens on `port`."""
    (folder / "nginx.conf").write_text(config)
    command = [find_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    return Server(
        "nginx", f"http://127.0.0.1:{port}", folder, [*command, "-g", "daemon off;"], ready=lambda: is_listening(port)
    )
