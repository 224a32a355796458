"""A socket whose messages are taken all at once, as many as have come.

One by one they cost twice as much: each is put into a queue of the library and fetched from there by a task.
"""

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

CONTINUATION = Opcode.CONT
DATA_OPCODES = CONTINUATION, Opcode.TEXT, Opcode.BINARY
MAX_BUFFERED_MESSAGES = 1_000  # messages that wait before the exchange has to


class BatchConnection(ClientConnection):
    """What it overrides is undocumented in websockets: a test holds that it is still called."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self._buffered, self._fragments = list[bytes](), list[bytes]()
        self._not_empty, self._paused = asyncio.Event(), False

    async def recv_batch(self) -> list[bytes]:
        """Those that came since the last time, oldest first, at least one. Raises ConnectionClosed."""
        while not self._buffered:
            if self.connection_lost_waiter.done():
                raise self.protocol.close_exc
            self._not_empty.clear()
            await self._not_empty.wait()
        taken, self._buffered = self._buffered, []
        if self._paused and not self.transport.is_closing():
            self.transport.resume_reading()
        self._paused = False
        return taken

    def process_event(self, event: Event) -> None:
        """A frame has come, or the answer to the handshake."""
        if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
        elif event.fin and event.opcode is not CONTINUATION:
            self._buffer_message(bytes(event.data))
        else:
            self._fragments.append(bytes(event.data))
            if event.fin:
                self._buffer_message(b"".join(self._fragments))
                self._fragments.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """No more will come."""
        if hasattr(self, "recv_messages"):  # else TLS through a proxy failed before `connection_made`
            super().connection_lost(exc)
        self._not_empty.set()

    def _buffer_message(self, message: bytes) -> None:
        self._buffered.append(message)
        self._not_empty.set()
        if len(self._buffered) >= MAX_BUFFERED_MESSAGES and not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()
