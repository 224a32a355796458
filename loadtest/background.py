"""A thread that runs during a `with` block."""

import threading
from typing import Self


class BackgroundThread(threading.Thread):
    """A thread that a `with` block starts and stops. Its `run` must return once `stop_requested` is set."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stop_requested = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_requested.set()
        self.join()
