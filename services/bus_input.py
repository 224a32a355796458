"""Subscriptions to the bus without messages whose values are out of range."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from prometheus_client import Counter

from services.core.bounds import find_violation
from services.core.model import Message
from services.ports import Clock, Deps

REJECTED = Counter(
    "kurs_bus_rejected_total", "Messages dropped because a value was out of range, by reason", ["kind", "reason"]
)


@asynccontextmanager
async def subscribe(deps: Deps, *kinds: type[Message]) -> AsyncIterator[AsyncIterator[Message]]:
    """Subscribe to messages of these kinds, those that are in range."""
    async with deps.bus.subscribe(*kinds) as messages, aclosing(drop_out_of_range(messages, deps.clock)) as checked:
        yield checked


async def drop_out_of_range(messages: AsyncIterator[Message], clock: Clock) -> AsyncGenerator[Message, None]:
    """Yield the messages that are in range, and count the others."""
    async for message in messages:
        if wrong := find_violation(message, clock.now()):
            REJECTED.labels(str(message.__struct_config__.tag), wrong.reason).inc()
        else:
            yield message
