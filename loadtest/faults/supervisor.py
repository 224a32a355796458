"""A supervisor that starts again what has ended, as an operator's would."""

import threading
from collections.abc import Mapping

from loadtest.background import BackgroundThread
from tests.servers import Server

POLL_SECONDS = 0.2


class Supervisor(BackgroundThread):
    """Starts again what has ended, at once. A `with` block marks its time."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        super().__init__()
        self.servers, self.starts = servers, 0
        self.locks = {name: threading.Lock() for name in servers}  # its holder works on that server

    def run(self) -> None:
        """Look until the end. What is being stopped just now is left alone."""
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
