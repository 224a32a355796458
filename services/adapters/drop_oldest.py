"""A bounded queue that drops its oldest messages, for a subscriber that may be slow."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from services.core.model import Message


class DropOldestQueue:
    """The newest messages of one subscriber."""

    def __init__(self, limit: int) -> None:
        self._messages: deque[Message] = deque(maxlen=limit)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, *messages: Message) -> None:
        """Append messages, and drop the oldest if the queue is full."""
        self._messages.extend(messages)
        self._changed.set()

    def close(self) -> None:
        """End `read` after the messages that are left."""
        self._closed = True
        self._changed.set()

    async def read(self) -> AsyncGenerator[Message, None]:
        """Yield messages until the queue is closed and empty."""
        while self._messages or not self._closed:
            await self._changed.wait()
            while self._messages:
                yield self._messages.popleft()
            if not self._closed:
                self._changed.clear()
