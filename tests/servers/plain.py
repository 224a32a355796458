"""Redis and nginx."""

import itertools
from pathlib import Path

from tests.servers.process import Server, find_program, free_port, is_listening


class Redis(Server):
    """A private Redis with many databases."""

    databases = itertools.count(1)

    def create_database(self) -> str:
        """Return the URL of a new, empty database."""
        return self.url.removesuffix("0") + str(next(self.databases))


def redis(folder: Path, *options: str) -> Redis:
    """Return a Redis that keeps its data over restarts."""
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
    """Return an nginx with that configuration, which listens on `port`."""
    (folder / "nginx.conf").write_text(config)
    command = [find_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    return Server(
        "nginx", f"http://127.0.0.1:{port}", folder, [*command, "-g", "daemon off;"], ready=lambda: is_listening(port)
    )
