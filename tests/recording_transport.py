"""A transport for tests of what is written to a client."""

import asyncio
from typing import cast


class RecordingTransport(asyncio.Transport):
    """A transport that records what is written. A test sets how many bytes are unread."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.unread, self.closed = b"", 0, False

    def write(self, data: object) -> None:
        self.written += cast("bytes", data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True
