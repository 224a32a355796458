"""WebSocket connection that hands out all messages that have arrived in one batch.

One by one they cost twice as much: the library queues each message, and a task fetches it from there.
"""

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

CONTINUATION = Opcode.CONT
DATA_OPCODES = CONTINUATION, Opcode.TEXT, Opcode.BINARY
MAX_BUFFERED_MESSAGES = 1_000  # after which the socket is not read until they are taken


class BatchConnection(ClientConnection):
    """Connection whose messages are read by `recv_batch`.

    It overrides hooks that websockets does not document; tests/service/test_frames.py checks that they are called.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffered, self._fragments = list[bytes](), list[bytes]()
        self._not_empty, self._paused = asyncio.Event(), False

    async def recv_batch(self) -> list[bytes]:
        """Return the messages since the last call, oldest first, at least one. Raises ConnectionClosed."""
        while not self._buffered:
            if self.connection_lost_waiter.done():
                raise self.protocol.close_exc
            self._not_empty.clear()
            await self._not_empty.wait()
        batch, self._buffered = self._buffered, []
        if self._paused and not self.transport.is_closing():
            self.transport.resume_reading()
        self._paused = False
        return batch

    def process_event(self, event: Event) -> None:
        """Buffer a data frame; leave the rest to the library."""
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
        """Wake the reader."""
        if hasattr(self, "recv_messages"):  # it is missing where TLS through a proxy failed before `connection_made`
            super().connection_lost(exc)
        self._not_empty.set()

    def _buffer_message(self, message: bytes) -> None:
        self._buffered.append(message)
        self._not_empty.set()
        if len(self._buffered) >= MAX_BUFFERED_MESSAGES and not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()
