"""What the bus on RabbitMQ promises when its broker restarts, hangs, dismisses or is not there yet."""

import asyncio
from collections.abc import Sequence

import aio_pika
import msgspec
import pytest

from services.adapters.rabbit import connect
from services.core.dead_letters import Cause
from services.core.errors import Misconfigured, Refused, Unavailable
from services.core.model import Gap
from tests import servers
from tests.contract.bus_traffic import (
    Traffic,
    flat,
    gaps,
    rabbit_bus,
    running,
    until,
    until_dead,
    worked,
)

UNKNOWN = b'{"type":"unknown"}'
UNREADABLE = b"garbage", b"[]", b"[%s]" % UNKNOWN, b"\xff\xfe\0", b'["\xed\xa0\x80"]', b"[" * 100_000
encode = msgspec.json.encode


async def test_what_cannot_be_read_goes_to_the_dead_and_the_rest_goes_on(rabbit: servers.Rabbit, queue: str) -> None:
    async with rabbit_bus(rabbit, queue) as bus:
        async with bus._broker.line() as (_, channel):
            exchange = await channel.get_exchange("kurs")
            for body in (*UNREADABLE, b"[%s,%s,%s]" % (encode(gaps(1)[0]), UNKNOWN, encode(gaps(2)[0]))):
                await exchange.publish(aio_pika.Message(body), "gap.binance")
        await bus.publish(*gaps(3))
        assert flat(await worked(bus, queue, 3)) == gaps(1, 2, 3)
        await until_dead(bus, queue, len(UNREADABLE) + 1)
        async with bus.take_dead(queue, 7) as letters:
            assert {(letter.queue, letter.cause) for letter in letters} == {(queue, Cause.SHAPE)}
            assert UNKNOWN.decode() in {letter.body for letter in letters}
            assert not any("\0" in letter.body for letter in letters)


async def test_a_restarted_broker_loses_no_work_and_who_listens_goes_on(rabbit: servers.Rabbit, queue: str) -> None:
    """Killed, then stopped, while messages are on their way and a worker is in the midst of a batch."""
    async with rabbit_bus(rabbit, queue) as bus:
        rabbit.flush()
        traffic = Traffic(bus, queue)
        async with running(traffic.publish(), traffic.work(), traffic.listen()) as (publishing, *_):
            for end in (rabbit.kill, rabbit.stop):
                await traffic.flows()
                await asyncio.to_thread(end)
                await asyncio.to_thread(rabbit.start)
            await traffic.flows()
            publishing.cancel()
            await until(lambda: traffic.done >= traffic.accepted)


@pytest.mark.parametrize("command", [("delete_queue", "{queue}"), ("close_all_connections", "test")])
async def test_who_was_dismissed_comes_back(rabbit: servers.Rabbit, queue: str, command: Sequence[str]) -> None:
    """A consumer whose queue or connection the broker takes away, itself alive and well."""
    words = [word.format(queue=queue) for word in command]
    async with rabbit_bus(rabbit, queue) as bus:
        traffic = Traffic(bus, queue)
        async with running(traffic.publish(), traffic.work(), traffic.listen()):
            await traffic.flows()
            await asyncio.to_thread(rabbit.control, *words)
            await traffic.flows()


async def test_a_broker_that_hangs_is_said_to_be_unavailable_and_then_is_not(
    rabbit: servers.Rabbit, queue: str
) -> None:
    async with rabbit_bus(rabbit, queue) as bus:
        rabbit.pause()
        try:
            for outcome in await asyncio.gather(bus.ping(), bus.publish(*gaps(1)), return_exceptions=True):
                assert isinstance(outcome, Unavailable)
                assert "RabbitMQ" in str(outcome)
        finally:
            rabbit.resume()
        await bus.publish(*gaps(2))
        assert gaps(2)[0] in flat(await worked(bus, queue, 2))


async def test_who_listens_waits_for_the_broker_and_who_publishes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def listen() -> None:
        async with bus.live(Gap):
            pass

    bus = await connect(f"amqp://guest:a-secret@127.0.0.1:{servers.free_port()}/")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(listen(), 3)
    with pytest.raises(Unavailable, match="RabbitMQ") as refused:
        await bus.publish(*gaps(1))
    assert "RabbitMQ" in caplog.text
    assert len(caplog.records) < 6
    assert "a-secret" not in caplog.text + str(refused.value)
    await bus.close()


@pytest.mark.parametrize(("wrong", "said"), [("guest:a-secret@", "password"), ("/nowhere", "virtual host")])
async def test_who_is_refused_does_not_wait(rabbit: servers.Rabbit, wrong: str, said: str) -> None:
    url = rabbit.url.replace("guest:guest@", wrong) if "@" in wrong else rabbit.url.removesuffix("/") + wrong
    bus = await connect(url)
    with pytest.raises(Misconfigured, match=f"RabbitMQ.*{said}.*RABBITMQ_URL") as refused:
        async with asyncio.timeout(10), bus.live(Gap):
            pass
    with pytest.raises(Refused):
        await bus.ping()
    assert "a-secret" not in str(refused.value)
    await bus.close()
