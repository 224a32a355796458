"""The contract of the bus, on each adapter."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.adapters.memory import MemoryBus
from services.adapters.rabbit import RabbitBus
from services.core.dead_letters import DeadLetterCause, to_message
from services.core.model import FeedGap, Message, Quote
from services.ports import Bus
from tests import servers
from tests.contract.bus_traffic import (
    MAX_DELIVERIES,
    MAX_LIVE_MESSAGES,
    consume_messages,
    feed_gaps,
    flatten,
    open_rabbit_bus,
    quotes,
    wait_for_dead_letters,
    wait_for_queue_depth,
)
from tests.jobs import running_jobs
from tests.waiting import eventually


class ConsumerFailure(Exception):
    """The failure of a consumer, with the batch that it failed at."""


@pytest.fixture(params=["memory", "rabbit"])
async def bus(request: pytest.FixtureRequest, queue: str) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus({queue: (FeedGap,)}, max_buffered=MAX_LIVE_MESSAGES, max_deliveries=MAX_DELIVERIES)
        return
    server: servers.Rabbit = request.getfixturevalue("rabbit")
    async with open_rabbit_bus(server, queue) as bus:
        yield bus


async def consume_until(bus: Bus, queue: str, poison: Message, done: list[Message]) -> None:
    """Consume batches into `done`. Raise ConsumerFailure at the batch with `poison`."""
    async with asyncio.timeout(30), bus.consume(queue, FeedGap) as work:
        async for batch in work:
            if poison in batch:
                raise ConsumerFailure(batch)
            done += batch


async def test_subscribers_receive_all_messages_of_their_kinds_in_order(bus: Bus) -> None:
    published: list[Message] = [*quotes(*range(5)), *feed_gaps(1), *quotes(*range(5), base="ETH")]
    async with asyncio.timeout(30), bus.subscribe(Quote) as one, bus.subscribe(Quote, FeedGap) as other:
        await bus.publish(*published)
        received = [await anext(one) for _ in range(10)], [await anext(other) for _ in range(11)]
    of_eth = [[m for m in each if isinstance(m, Quote) and m.instrument.base == "ETH"] for each in received]
    assert of_eth == [published[6:], published[6:]]
    assert sorted(map(repr, received[0])) == sorted(repr(m) for m in published if isinstance(m, Quote))
    assert sorted(map(repr, received[1])) == sorted(map(repr, published))


async def test_slow_subscriber_loses_only_the_oldest_messages(bus: Bus) -> None:
    published = quotes(*range(MAX_LIVE_MESSAGES * 3))
    async with asyncio.timeout(30), bus.subscribe(Quote) as slow, bus.subscribe(Quote) as quick:
        for quote in published:
            await bus.publish(quote)
            assert await anext(quick) == quote
        received = [await anext(slow)]
        while received[-1] != published[-1]:  # the last may still be on its way
            received.append(await anext(slow))
    assert received == published[-len(received) :]
    assert MAX_LIVE_MESSAGES <= len(received) < len(published)


async def test_messages_published_before_the_first_consumer_are_delivered(bus: Bus, queue: str) -> None:
    await bus.publish(*feed_gaps(*range(10)))
    assert flatten(await consume_messages(bus, queue, 10)) == feed_gaps(*range(10))


async def test_queue_depth_counts_messages_until_they_are_acked(bus: Bus, queue: str) -> None:
    await wait_for_queue_depth(bus, queue, 0)
    for number in range(3):
        await bus.publish(*feed_gaps(number))
    await wait_for_queue_depth(bus, queue, 3)
    await consume_messages(bus, queue, 3)
    await wait_for_queue_depth(bus, queue, 0)


async def test_batches_have_at_most_size_messages_in_order(bus: Bus, queue: str) -> None:
    await bus.publish(*feed_gaps(*range(120)))
    for number in range(120, 130):
        await bus.publish(*feed_gaps(number))
    batches = await consume_messages(bus, queue, 130, size=7)
    assert flatten(batches) == feed_gaps(*range(130))
    assert max(map(len, batches)) == 7


async def test_message_goes_to_one_consumer_of_the_queue(bus: Bus, queue: str) -> None:
    taken: list[Message] = []

    async def consumer() -> None:
        async with bus.consume(queue, FeedGap, size=5) as work:
            async for batch in work:
                taken.extend(batch)
                await asyncio.sleep(0)

    async with running_jobs(consumer(), consumer(), consumer()):
        for number in range(60):
            await bus.publish(*feed_gaps(number))
        await eventually(lambda: len(taken) >= 60)
    assert sorted(taken, key=lambda m: m.since if isinstance(m, FeedGap) else 0) == feed_gaps(*range(60))


async def test_messages_without_an_ack_are_redelivered(bus: Bus, queue: str) -> None:
    await bus.publish(*feed_gaps(*range(3)))
    assert flatten(await consume_messages(bus, queue, 3)) == feed_gaps(*range(3))
    await bus.publish(*feed_gaps(*range(3, 6)))
    with pytest.raises(ConsumerFailure):
        await consume_until(bus, queue, feed_gaps(3)[0], [])
    assert flatten(await consume_messages(bus, queue, 3)) == feed_gaps(*range(3, 6))


async def test_batch_of_a_consumer_cancelled_before_its_ack_is_redelivered(bus: Bus, queue: str) -> None:
    received = asyncio.Event()

    async def consumer() -> None:
        async with bus.consume(queue, FeedGap) as work:
            async for _ in work:
                received.set()
                await asyncio.Event().wait()

    await bus.publish(*feed_gaps(1))
    task = asyncio.create_task(consumer())
    await asyncio.wait_for(received.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert flatten(await consume_messages(bus, queue, 1)) == feed_gaps(1)


async def test_message_published_twice_is_delivered_twice(bus: Bus, queue: str) -> None:
    await bus.publish(*feed_gaps(1, 1))
    await bus.publish(*feed_gaps(1))
    assert flatten(await consume_messages(bus, queue, 3)) == feed_gaps(1, 1, 1)


async def test_message_that_always_fails_becomes_a_dead_letter_alone(bus: MemoryBus | RabbitBus, queue: str) -> None:
    for number in range(6):
        await bus.publish(*feed_gaps(number, exchange=f"e{number}"))
    (poison,) = feed_gaps(5, exchange="e5")
    done: list[Message] = []
    for number in range(6, 6 + MAX_DELIVERIES):
        with pytest.raises(ConsumerFailure) as failure:
            await consume_until(bus, queue, poison, done)
        assert number == 6 or failure.value.args == ([poison],)
        await bus.publish(*feed_gaps(number))
    done += flatten(await consume_messages(bus, queue, 5 + MAX_DELIVERIES - len(done)))
    assert {m.since for m in done if isinstance(m, FeedGap)} == {*range(6 + MAX_DELIVERIES)} - {5}
    await wait_for_dead_letters(bus, queue, 1)
    with pytest.raises(ConsumerFailure):
        async with bus.take_dead_letters(queue, 7):
            raise ConsumerFailure
    await wait_for_dead_letters(bus, queue, 1)
    async with bus.take_dead_letters(queue, 7) as letters:
        (letter,) = letters
    assert (to_message(letter), letter.cause, letter.time) == (poison, DeadLetterCause.DELIVERY, 7)
    await wait_for_dead_letters(bus, queue, 0)


async def test_undeclared_queue_is_refused(bus: Bus, queue: str) -> None:
    for name, kind in (("another", FeedGap), (queue, Quote)):
        with pytest.raises(ValueError, match="not in QUEUES"):
            async with bus.consume(name, kind):
                pass


async def test_ping_of_a_running_bus_succeeds(bus: Bus) -> None:
    await bus.ping()


async def test_full_work_queue_makes_the_publisher_wait() -> None:
    bus = MemoryBus({"q": (FeedGap,)}, max_queued=3)
    publishing = asyncio.create_task(bus.publish(*feed_gaps(*range(10))))
    await asyncio.sleep(0)
    assert not publishing.done()
    assert flatten(await consume_messages(bus, "q", 10, size=2)) == feed_gaps(*range(10))
    await publishing
