"""A supervisor that starts again what has ended, as an operator's would."""

import threading
from collections.abc import Mapping
from typing import Self

from tests.servers import Server

POLL_SECONDS = 0.2  # seconds


class Supervisor(threading.Thread):
    """Starts again what has ended, at once. A `with` block marks its time."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        super().__init__(daemon=True)
        self.servers, self.starts = servers, 0
        self.locks = {name: threading.Lock() for name in servers}  # its holder works on that server
        self._stop_requested = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_requested.set()
        self.join()

    def run(self) -> None:
        """Look until the end. What is being stopped just now is left alone."""
        while not self._stop_requested.wait(POLL_SECONDS):
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
