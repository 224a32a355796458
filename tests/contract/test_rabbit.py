"""The bus on RabbitMQ when its broker restarts, hangs, refuses or is not there yet."""

import asyncio
from collections.abc import Sequence

import aio_pika
import msgspec
import pytest

from services.adapters.rabbit import connect
from services.core.dead_letters import DeadLetterCause
from services.core.errors import AccessRefused, Misconfigured, Unavailable
from services.core.model import FeedGap, HighPriorityTask, Message, NormalPriorityTask
from tests import servers
from tests.contract.bus_traffic import (
    BusTraffic,
    consume_messages,
    feed_gaps,
    flatten,
    open_rabbit_bus,
    wait_for_dead_letters,
)
from tests.jobs import running_jobs
from tests.waiting import eventually

UNKNOWN = b'{"type":"unknown"}'
UNREADABLE = b"garbage", b"[]", b"[%s]" % UNKNOWN, b"\xff\xfe\0", b'["\xed\xa0\x80"]', b"[" * 100_000
encode = msgspec.json.encode


async def test_undecodable_message_becomes_a_dead_letter_and_others_pass(rabbit: servers.Rabbit, queue: str) -> None:
    async with open_rabbit_bus(rabbit, queue) as bus:
        async with bus._broker.connect() as (_, channel):
            exchange = await channel.get_exchange("kurs")
            for body in (*UNREADABLE, b"[%s,%s,%s]" % (encode(feed_gaps(1)[0]), UNKNOWN, encode(feed_gaps(2)[0]))):
                await exchange.publish(aio_pika.Message(body), "gap.binance")
        await bus.publish(*feed_gaps(3))
        assert flatten(await consume_messages(bus, queue, 3)) == feed_gaps(1, 2, 3)
        await wait_for_dead_letters(bus, queue, len(UNREADABLE) + 1)
        async with bus.take_dead_letters(queue, 7) as letters:
            assert {(letter.queue, letter.cause) for letter in letters} == {(queue, DeadLetterCause.SHAPE)}
            assert UNKNOWN.decode() in {letter.body for letter in letters}
            assert not any("\0" in letter.body for letter in letters)


async def test_work_is_not_lost_and_subscribers_reconnect_after_broker_restarts(
    rabbit: servers.Rabbit, queue: str
) -> None:
    """The broker is killed, then stopped, while messages are on their way and a consumer works on a batch."""
    async with open_rabbit_bus(rabbit, queue) as bus:
        rabbit.sync_tables()
        traffic = BusTraffic(bus, queue)
        async with running_jobs(traffic.publish(), traffic.consume(), traffic.subscribe()) as (publishing, *_):
            for end in (rabbit.kill, rabbit.stop):
                await traffic.wait_for_flow()
                await asyncio.to_thread(end)
                await asyncio.to_thread(rabbit.start)
            await traffic.wait_for_flow()
            publishing.cancel()
            await eventually(lambda: traffic.consumed >= traffic.published)


@pytest.mark.parametrize("command", [("delete_queue", "{queue}"), ("close_all_connections", "test")])
async def test_cancelled_consumer_consumes_again(rabbit: servers.Rabbit, queue: str, command: Sequence[str]) -> None:
    """The broker deletes its queue or closes its connection, and stays up."""
    arguments = [word.format(queue=queue) for word in command]
    async with open_rabbit_bus(rabbit, queue) as bus:
        traffic = BusTraffic(bus, queue)
        async with running_jobs(traffic.publish(), traffic.consume(), traffic.subscribe()):
            await traffic.wait_for_flow()
            await asyncio.to_thread(rabbit.rabbitmqctl, *arguments)
            await traffic.wait_for_flow()


async def test_hanging_broker_is_unavailable_until_it_continues(rabbit: servers.Rabbit, queue: str) -> None:
    async with open_rabbit_bus(rabbit, queue) as bus:
        rabbit.pause()
        try:
            for outcome in await asyncio.gather(bus.ping(), bus.publish(*feed_gaps(1)), return_exceptions=True):
                assert isinstance(outcome, Unavailable)
                assert "RabbitMQ" in str(outcome)
        finally:
            rabbit.resume()
        await bus.publish(*feed_gaps(2))
        assert feed_gaps(2)[0] in flatten(await consume_messages(bus, queue, 2))


async def test_subscriber_waits_for_the_broker_and_publisher_gets_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    async def subscribe() -> None:
        async with bus.subscribe(FeedGap):
            pass

    bus = await connect(f"amqp://guest:a-secret@127.0.0.1:{servers.free_port()}/")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(subscribe(), 3)
    with pytest.raises(Unavailable, match="RabbitMQ") as refused:
        await bus.publish(*feed_gaps(1))
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("services.")]
    assert "RabbitMQ" in logged[0]
    assert len(logged) < 6
    assert "a-secret" not in str([*logged, refused.value])
    await bus.close()


@pytest.mark.parametrize(("wrong", "reason"), [("guest:a-secret@", "password"), ("/nowhere", "virtual host")])
async def test_refused_login_ends_without_a_retry(rabbit: servers.Rabbit, wrong: str, reason: str) -> None:
    url = rabbit.url.replace("guest:guest@", wrong) if "@" in wrong else rabbit.url.removesuffix("/") + wrong
    bus = await connect(url)
    with pytest.raises(Misconfigured, match=f"RabbitMQ.*{reason}.*RABBITMQ_URL") as refused:
        async with asyncio.timeout(30), bus.subscribe(FeedGap):
            pass
    with pytest.raises(AccessRefused):
        await bus.ping()
    assert "a-secret" not in str(refused.value)
    await bus.close()


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("tasks.high", "high.priority", HighPriorityTask("a")),
        ("tasks.normal", "normal.priority", NormalPriorityTask("a")),
    ],
)
async def test_tasks_travel_by_the_routing_key_of_their_queue(
    rabbit: servers.Rabbit, name: str, key: str, message: Message
) -> None:
    """Other programs may rely on these names, so they are not derived here."""
    bus = await connect(rabbit.create_vhost())
    await bus.ping()
    async with bus._broker.connect() as (_, channel):
        exchange = await channel.get_exchange("kurs")
        witness = await channel.declare_queue(exclusive=True)
        await witness.bind(exchange, key)
        await bus.publish(message)
        assert (await witness.get()).body == b"[%s]" % encode(message)
        await exchange.publish(aio_pika.Message(b"garbage"), key)
        await exchange.publish(aio_pika.Message(b"[%s]" % encode(message)), key)
    async with asyncio.timeout(10), bus.consume(name, type(message), size=1) as work:
        assert [await anext(work) for _ in range(2)] == [[message]] * 2
    await wait_for_dead_letters(bus, name, 1)
    await bus.close()
