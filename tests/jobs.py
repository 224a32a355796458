"""Jobs of services beside a test, and the messages they publish."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from services.core.model import Message
from services.ports import Bus

M = TypeVar("M")


@asynccontextmanager
async def running_jobs(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run the jobs until the block ends, then cancel them. A job that ends before fails the test."""
    tasks = [asyncio.create_task(job) for job in jobs]
    await asyncio.sleep(0)
    try:
        yield tasks
        ended = [task for task in tasks if task.done() and not task.cancelled()]
        assert not ended, f"a job ended: {ended}"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def recorded_messages(bus: Bus, kind: type[M], *more: type[M]) -> AsyncIterator[list[M]]:
    """The messages of these kinds from now on, in a list that grows until the block ends."""
    received, subscribed = list[M](), asyncio.Event()
    kinds: Any = (kind, *more)

    async def record() -> None:
        async with bus.subscribe(*kinds) as messages:
            subscribed.set()
            async for message in messages:
                received.append(_of_kinds(message, kinds))

    async with running_jobs(record()):
        await subscribed.wait()
        yield received


def _of_kinds(message: Message, kinds: Any) -> Any:
    assert isinstance(message, kinds)
    return message
