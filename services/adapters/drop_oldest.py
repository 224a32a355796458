"""The newest of a stream, for one who may be slower than it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from services.core.model import Message


class DropOldestQueue:
    """One listener's newest messages; a full one drops the oldest."""

    def __init__(self, limit: int) -> None:
        self._messages: deque[Message] = deque(maxlen=limit)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, *messages: Message) -> None:
        """Take more in, at once."""
        self._messages.extend(messages)
        self._changed.set()

    def close(self) -> None:
        """Nothing more will come: who reads gets the rest and is done."""
        self._closed = True
        self._changed.set()

    async def read(self) -> AsyncGenerator[Message, None]:
        """All that is there and all that comes, until it has ended."""
        while self._messages or not self._closed:
            await self._changed.wait()
            while self._messages:
                yield self._messages.popleft()
            if not self._closed:
                self._changed.clear()
