"""A supervisor that restarts ended processes, like a container runtime."""

import threading
from collections.abc import Mapping

from loadtest.background import BackgroundThread
from tests.servers import Server

POLL_SECONDS = 0.2


class Supervisor(BackgroundThread):
    """A thread that restarts ended servers at once. A `with` block starts and stops it."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        super().__init__()
        self.servers, self.starts = servers, 0
        self.locks = {name: threading.Lock() for name in servers}  # held by a fault that acts on the server

    def run(self) -> None:
        """Check the servers until the thread is stopped. A locked server is not restarted."""
        while not self.stop_requested.wait(POLL_SECONDS):
            for name, server in self.servers.items():
                if self.locks[name].acquire(blocking=False):
                    try:
                        self._restart_if_ended(server)
                    finally:
                        self.locks[name].release()

    def _restart_if_ended(self, server: Server) -> None:
        if server.process is None or server.process.poll() is not None:
            server.launch()
            self.starts += 1
