"""Roles: one process holds each, and another one takes over within seconds after the first ends or hangs."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
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
from tests.waiting import eventually, wait_until

MAX_TAKEOVER_SECONDS = 15  # on a busy machine

# A process that wants a role. It prints when it gets and loses it, in monotonic seconds of this machine.
CANDIDATE = """
import asyncio, sys, time
from services.adapters import sql
from services.adapters.rabbit import connect

def report(event):
    print(time.monotonic(), event, flush=True)

async def main(broker, database):
    bus, store = await connect(broker), await sql.connect(database)
    while True:
        async with bus.hold_role("test", lambda holder: report(f"waits for {holder}")) as bus_lease:
            async with store.hold_role("test", lambda holder: report("waits for the lock"), True) as store_lease:
                report("has")
                ends = [asyncio.create_task(each.lost.wait()) for each in (bus_lease, store_lease)]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                report("lost")

asyncio.run(main(*sys.argv[1:]))
"""


class RoleCandidate(Server):
    """A process that wants the role."""

    def output(self) -> list[tuple[float, str]]:
        """Return its events with their times."""
        lines = (self.folder / "log").read_text().splitlines()
        rows = [line.partition(" ") for line in lines if line[:1].isdigit()]
        return [(float(at), event) for at, _, event in rows]

    def has_role(self, since: float = 0) -> bool:
        """Return whether it believes that it has the role, got after `since`."""
        at, event = next((row for row in reversed(self.output()) if row[1] in ("has", "lost")), (0, "lost"))
        return event == "has" and at > since


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


def wait_for_role(process: RoleCandidate, seconds: float = 60) -> float:
    """Wait until a candidate has the role, and return the seconds that took."""
    return wait_until(process.has_role, "role", seconds, details=process.log)


@pytest.fixture
def urls(rabbit: servers.Rabbit, postgres: servers.Postgres) -> tuple[str, str]:
    database = postgres.create_database()
    asyncio.run(sql.migrate(database))
    return rabbit.url, database


def test_standby_takes_over_within_seconds_and_the_previous_holder_notices(
    tmp_path: Path, rabbit: servers.Rabbit, postgres: servers.Postgres, urls: tuple[str, str]
) -> None:
    with start_candidate(tmp_path, "one", *urls) as one:
        wait_for_role(one)
        assert one.process
        with start_candidate(tmp_path, "two", *urls) as two:
            wait_until(two.output, "output of the standby", details=two.log)
            assert two.output()[0][1].startswith(f"waits for process {one.process.pid} on ")

            one.pause()
            took = {"hung": wait_for_role(two, MAX_TAKEOVER_SECONDS)}
            one.resume()
            wait_until(lambda: not one.has_role(), "loss of the role after a hang", details=one.log)
            two.kill()
            took["killed"] = wait_for_role(one, MAX_TAKEOVER_SECONDS)
            for name, restart in (("broker", rabbit.restart), ("database", postgres.restart)):
                before = one.output()[-1][0]
                restart()
                wait_until(partial(one.has_role, before), f"role after a restart of the {name}", details=one.log)
            rabbit.rabbitmqctl("delete_queue", "role.test")
            wait_until(
                lambda: [event for _, event in one.output()][-2:] == ["lost", "has"],
                "role after its queue was deleted",
                details=one.log,
            )
            assert took["killed"] < took["hung"], "a killed holder's role is free at once"


async def test_exclusive_queue_is_taken_over_with_unacked_messages_in_order(
    rabbit: servers.Rabbit, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_rabbit_bus(rabbit, queue) as first, open_rabbit_bus(rabbit, queue) as second:
        await first.publish(*feed_gaps(*range(10)))
        working = first.consume(queue, FeedGap, size=5, exclusive=True)
        batches = await working.__aenter__()
        assert [gap.since for gap in await anext(aiter(batches)) if isinstance(gap, FeedGap)] == [*range(5)]
        taking = asyncio.create_task(consume_exclusively(second, queue))
        await eventually(lambda: "still has another worker" in caplog.text)
        await first.publish(*feed_gaps(*range(10, 20)))
        assert not taking.done()
        await working.__aexit__(KeyError, KeyError(), None)
        assert await taking == [*range(20)]


async def consume_exclusively(bus: RabbitBus, queue: str) -> list[int]:
    found = list[int]()
    async with asyncio.timeout(60), bus.consume(queue, FeedGap, exclusive=True) as batches:
        async for batch in batches:
            found += [gap.since for gap in batch if isinstance(gap, FeedGap)]
            if len(found) >= 20:
                break
    return found


async def test_same_role_in_another_market_and_another_role_are_free(
    rabbit: servers.Rabbit, postgres: servers.Postgres
) -> None:
    def never(holder: str) -> None:
        raise AssertionError(holder)

    live, simulated = await connect(rabbit.url), await connect(rabbit.url, market=SIMULATED)
    url = postgres.create_database()
    store = await sql.connect(url)
    async with AsyncExitStack() as held, asyncio.timeout(60):
        for role in (live.hold_role("a", never), live.hold_role("b", never), simulated.hold_role("a", never)):
            await held.enter_async_context(role)
        for name in ("a", "b"):
            await held.enter_async_context(store.hold_role(name, never, elected=False))
    await store.close()
