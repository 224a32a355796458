"""Roles: only one process has each, and another one takes over within seconds, whatever ends the first."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from services.adapters import sql
from services.adapters.rabbit import connect
from services.adapters.rabbit.bus import RabbitBus
from services.core.markets import SIMULATED
from services.core.model import FeedGap
from tests import servers
from tests.contract.bus_traffic import feed_gaps, open_rabbit_bus
from tests.servers import Server

MAX_TAKEOVER_SECONDS = 15  # for a takeover, on a busy machine

# A process that wants a role, and writes down when it gets and loses it: machine-wide monotonic seconds.
CANDIDATE = """
import asyncio, sys, time
from services.adapters import sql
from services.adapters.rabbit import connect

def say(word):
    print(time.monotonic(), word, flush=True)

async def main(broker, database):
    bus, store = await connect(broker), await sql.connect(database)
    while True:
        async with bus.hold_role("test", lambda who: say(f"waits for {who}")) as bus_lease:
            async with store.hold_role("test", lambda who: say("waits for the lock"), True) as store_lease:
                say("has")
                ends = [asyncio.create_task(each.lost.wait()) for each in (bus_lease, store_lease)]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                say("lost")

asyncio.run(main(*sys.argv[1:]))
"""


class RoleCandidate(Server):
    """One such process."""

    def output(self) -> list[tuple[float, str]]:
        """What it wrote down."""
        lines = (self.folder / "log").read_text().splitlines()
        rows = [line.partition(" ") for line in lines if line[:1].isdigit()]
        return [(float(at), word) for at, _, word in rows]

    def has_role(self) -> bool:
        """Whether it has the role, as far as it knows."""
        words = [word for _, word in self.output() if word in ("has", "lost")]
        return words[-1:] == ["has"]


@contextmanager
def start_candidate(folder: Path, name: str, *urls: str) -> Iterator[RoleCandidate]:
    (folder / name).mkdir()
    line = [sys.executable, "-c", CANDIDATE, *urls]
    root = str(Path(__file__).parents[2])
    process = RoleCandidate(name, "", folder / name, line, ready=lambda: True, env={"PYTHONPATH": root})
    process.launch()
    try:
        yield process
    finally:
        process.resume()
        process.kill()


def wait_for_role(process: RoleCandidate, seconds: float = 30) -> float:
    """Wait until it has the role; answers how long that took."""
    begun = time.monotonic()
    while not process.has_role():
        assert time.monotonic() - begun < seconds, process.log()
        time.sleep(0.05)
    return time.monotonic() - begun


@pytest.fixture
def urls(rabbit: servers.Rabbit, postgres: servers.Postgres) -> tuple[str, str]:
    database = postgres.create_database()
    asyncio.run(sql.migrate(database))
    return rabbit.url, database


def test_a_standby_takes_over_within_seconds_and_two_never_have_it(
    tmp_path: Path, rabbit: servers.Rabbit, postgres: servers.Postgres, urls: tuple[str, str]
) -> None:
    with start_candidate(tmp_path, "one", *urls) as one:
        wait_for_role(one)
        assert one.process
        with start_candidate(tmp_path, "two", *urls) as two:
            deadline = time.monotonic() + 20
            while not two.output():
                assert time.monotonic() < deadline, two.log()
                time.sleep(0.05)
            assert two.output()[0][1].startswith(f"waits for process {one.process.pid} on ")

            one.pause()
            took = {"hung": wait_for_role(two, MAX_TAKEOVER_SECONDS)}
            one.resume()
            deadline = time.monotonic() + 10
            while one.has_role():
                assert time.monotonic() < deadline, "who hung does not see that the role is another's"
                time.sleep(0.05)
            two.kill()
            took["killed"] = wait_for_role(one, MAX_TAKEOVER_SECONDS)
            for name, restart in (("broker", rabbit.restart), ("database", postgres.restart)):
                before = one.output()[-1][0]
                restart()
                deadline = time.monotonic() + 40
                while not (one.has_role() and one.output()[-1][0] > before):
                    assert time.monotonic() < deadline, f"{name}: {one.log()}"
                    time.sleep(0.05)
            rabbit.rabbitmqctl("delete_queue", "role.test")
            deadline = time.monotonic() + 10
            while [word for _, word in one.output()][-2:] != ["lost", "has"]:
                assert time.monotonic() < deadline, one.log()
                time.sleep(0.05)
            print(took)  # noqa: T201  shown when the test fails
            assert took["killed"] < 5


async def test_exclusive_queue_is_taken_over_with_unacked_messages_in_order(rabbit: servers.Rabbit, queue: str) -> None:
    async with open_rabbit_bus(rabbit, queue) as first, open_rabbit_bus(rabbit, queue) as second:
        await first.publish(*feed_gaps(*range(10)))
        working = first.consume(queue, FeedGap, size=5, exclusive=True)
        batches = await working.__aenter__()
        assert [gap.since for gap in await anext(aiter(batches)) if isinstance(gap, FeedGap)] == [*range(5)]
        taking = asyncio.create_task(consume_exclusively(second, queue))
        await asyncio.sleep(1)
        await first.publish(*feed_gaps(*range(10, 20)))
        await asyncio.sleep(1)
        assert not taking.done()
        await working.__aexit__(KeyError, KeyError(), None)
        assert await taking == [*range(20)]


async def consume_exclusively(bus: RabbitBus, queue: str) -> list[int]:
    found = list[int]()
    async with asyncio.timeout(20), bus.consume(queue, FeedGap, exclusive=True) as batches:
        async for batch in batches:
            found += [gap.since for gap in batch if isinstance(gap, FeedGap)]
            if len(found) >= 20:
                break
    return found


async def test_markets_and_roles_are_apart(rabbit: servers.Rabbit, postgres: servers.Postgres) -> None:
    def never(who: str) -> None:
        raise AssertionError(who)

    live, simulated = await connect(rabbit.url), await connect(rabbit.url, market=SIMULATED)
    url = postgres.create_database()
    store = await sql.connect(url)
    async with AsyncExitStack() as held, asyncio.timeout(20):
        for role in (live.hold_role("a", never), live.hold_role("b", never), simulated.hold_role("a", never)):
            await held.enter_async_context(role)
        for name in ("a", "b"):
            await held.enter_async_context(store.hold_role(name, never, elected=False))
    await store.close()
