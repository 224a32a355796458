"""Clients that do not read what they are sent."""

from asyncio import TimerHandle, Transport
from collections.abc import Callable
from typing import Any

MAX_STALL_SECONDS = 40  # in which a client has to read some of what it is sent; streams say goodbye before that


class StalledClientTimer:
    """Cuts a connection whose client reads nothing. It knows the connection only while something waits: a circle would
    stay in memory until the garbage collector looks at what is old, which is after hours.
    """

    def __init__(self) -> None:
        self._timer: TimerHandle | None = None

    def start(self, transport: Transport, loop: Any, cut: Callable[[], None]) -> None:
        """More waits for it than should."""
        self.stop()
        waiting = transport.get_write_buffer_size()
        self._timer = loop.call_later(MAX_STALL_SECONDS, self._check, transport, loop, cut, waiting)

    def stop(self) -> None:
        """It has read, or is gone."""
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _check(self, transport: Transport, loop: Any, cut: Callable[[], None], waiting: int) -> None:
        if transport.get_write_buffer_size() < waiting:
            self.start(transport, loop, cut)
        else:
            cut()
