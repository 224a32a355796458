"""Tasks from the table over the bus to their functions, in one process and split over real servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import Struct

from services.accounts.context import TaskContext
from services.accounts.registry import TaskSpec
from services.accounts.sweep import Sweep
from services.accounts.workers import Workers
from services.adapters import rabbit as rabbits
from services.adapters import sql
from services.adapters.memory import MemoryBus
from services.adapters.sql import accounts
from services.core.tasks import FINISHED_STATES, NewTask, Task, TaskQueue, TaskState
from services.ports import Bus, Deps
from services.task_publisher import TaskPublisher
from tests import servers
from tests.deps import make_deps
from tests.jobs import running_jobs
from tests.waiting import eventually

Function = Callable[..., Awaitable[object]]


@dataclass
class Site:
    """Where tasks are stored and published. Each process has its own connections."""

    url: str
    new_bus: Callable[[], Awaitable[Bus]]
    deps: list[Deps] = field(default_factory=list)

    async def connect(self) -> Deps:
        """The ports of one more process."""
        bus = await self.new_bus()
        self.deps.append(make_deps(bus=bus, accounts=accounts.connect(self.url, TaskPublisher(bus))))
        return self.deps[-1]


@pytest.fixture(params=["one process", "split"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    if request.param == "split":
        postgres: servers.Postgres = request.getfixturevalue("postgres")
        rabbit: servers.Rabbit = request.getfixturevalue("rabbit")
        vhost = rabbit.create_vhost()
        site = Site(postgres.create_database(), lambda: rabbits.connect(vhost))
    else:
        shared = MemoryBus()
        site = Site(f"sqlite+aiosqlite:///{tmp_path}/kurs.db", lambda: asyncio.sleep(0, shared))
    await sql.migrate(site.url)
    yield site
    for deps in site.deps:
        await deps.accounts.close()
        await deps.bus.close()


def to_specs(functions: Mapping[str, Function], **options: object) -> dict[str, TaskSpec]:
    return {name: TaskSpec(name, function, **options) for name, function in functions.items()}  # type: ignore[arg-type]


@asynccontextmanager
async def running_process(site: Site, specs: Mapping[str, TaskSpec]) -> AsyncIterator[Deps]:
    """One process that runs tasks."""
    deps = await site.connect()
    async with running_jobs(Workers(deps, specs).run(), Sweep(deps, specs).run()):
        yield deps


async def add_task(deps: Deps, name: str, **fields: object) -> Task:
    async with deps.accounts.transaction() as tx:
        return await tx.tasks.add(NewTask(name=name, **fields), deps.clock.now())  # type: ignore[arg-type]


async def stored(deps: Deps, task: Task) -> Task:
    async with deps.accounts.transaction() as tx:
        found = await tx.tasks.get(task.id)
    assert found
    return found


async def finished(deps: Deps, task: Task) -> Task:
    async def ended() -> bool:
        return (await stored(deps, task)).state in FINISHED_STATES

    await eventually(ended)
    return await stored(deps, task)


async def test_a_task_runs_once_with_its_arguments_and_leaves_its_result(site: Site) -> None:
    class Pair(Struct):
        base: str
        amount: int

    async def double(context: TaskContext, pair: Pair) -> Pair:
        with context.outside():
            await asyncio.sleep(0.02)
        return Pair(pair.base, pair.amount * 2)

    specs = {"double": TaskSpec("double", double, arguments=Pair)}
    async with running_process(site, specs) as deps, running_process(site, specs):
        tasks = [await add_task(deps, "double", arguments=Pair("BTC", n), queue=q) for n, q in enumerate(TaskQueue)]
        ended = [await finished(deps, task) for task in tasks]
    assert [task.result for task in ended] == ['{"base":"BTC","amount":0}', '{"base":"BTC","amount":2}']
    assert {(task.state, task.attempt) for task in ended} == {(TaskState.SUCCEEDED, 1)}
    assert all(task.outside_ms >= 20 for task in ended)
