"""The end of connections whose clients do not read."""

from asyncio import TimerHandle, Transport
from collections.abc import Callable
from typing import Any

MAX_STALL_SECONDS = 40  # in which a client has to read something; streams close a slow client before that


class StalledClientTimer:
    """Cuts a connection whose client reads nothing.

    It refers to the connection only while data waits. A reference cycle would stay in memory until the garbage
    collector visits old objects, which is after hours.
    """

    def __init__(self) -> None:
        self._timer: TimerHandle | None = None

    def start(self, transport: Transport, loop: Any, cut: Callable[[], None]) -> None:
        """Start, because the write buffer is full."""
        self.stop()
        waiting = transport.get_write_buffer_size()
        self._timer = loop.call_later(MAX_STALL_SECONDS, self._check, transport, loop, cut, waiting)

    def stop(self) -> None:
        """Stop, because the client has read, or is gone."""
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _check(self, transport: Transport, loop: Any, cut: Callable[[], None], waiting: int) -> None:
        if transport.get_write_buffer_size() < waiting:
            self.start(transport, loop, cut)
        else:
            cut()
