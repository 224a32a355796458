"""A socket whose messages are taken all at once, as many as have come.

One by one they cost twice as much: each is put into a queue of the library and fetched from there by a task.
"""

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

CONT = Opcode.CONT
DATA = CONT, Opcode.TEXT, Opcode.BINARY
FULL = 1_000  # messages that wait before the exchange has to


class Frames(ClientConnection):
    """What it overrides is undocumented in websockets: a test holds that it is still called."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self._messages, self._parts = list[bytes](), list[bytes]()
        self._some, self._paused = asyncio.Event(), False

    async def messages(self) -> list[bytes]:
        """Those that came since the last time, oldest first, at least one. Raises ConnectionClosed."""
        while not self._messages:
            if self.connection_lost_waiter.done():
                raise self.protocol.close_exc
            self._some.clear()
            await self._some.wait()
        taken, self._messages = self._messages, []
        if self._paused and not self.transport.is_closing():
            self.transport.resume_reading()
        self._paused = False
        return taken

    def process_event(self, event: Event) -> None:
        """A frame has come, or the answer to the handshake."""
        if not isinstance(event, Frame) or event.opcode not in DATA:
            super().process_event(event)
        elif event.fin and event.opcode is not CONT:
            self._arrived(bytes(event.data))
        else:
            self._parts.append(bytes(event.data))
            if event.fin:
                self._arrived(b"".join(self._parts))
                self._parts.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """No more will come."""
        if hasattr(self, "recv_messages"):  # else TLS through a proxy failed before `connection_made`
            super().connection_lost(exc)
        self._some.set()

    def _arrived(self, message: bytes) -> None:
        self._messages.append(message)
        self._some.set()
        if len(self._messages) >= FULL and not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()
