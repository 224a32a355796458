"""Tasks from the table over the bus to their functions, in one process and split over real servers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import Struct
from sqlalchemy import delete

from services.accounts.context import TaskContext
from services.accounts.registry import TaskSpec
from services.accounts.sweep import Sweep
from services.accounts.workers import MAX_RUNNING, Workers
from services.adapters import rabbit as rabbits
from services.adapters import sql
from services.adapters.memory import MemoryBus
from services.adapters.sql import accounts
from services.adapters.sql.account_tables import tasks
from services.adapters.sql.engine import make_engine
from services.core.errors import Unavailable
from services.core.tasks import FINISHED_STATES, NewTask, Task, TaskFilter, TaskQueue, TaskState, TaskTiming
from services.ports import Bus, Deps
from services.settings import Settings
from services.task_publisher import MESSAGES, TaskPublisher, bus_queue
from tests import servers
from tests.deps import make_deps
from tests.jobs import running_jobs
from tests.waiting import eventually

Function = Callable[..., Awaitable[object]]
PASSWORD = "pass-of-the-database"
QUICK = TaskTiming(heartbeat=0.2, sweep=0.1, lease_sweeps=15, unclaimed_ms=500, shutdown=0.5)


@dataclass
class Site:
    """Where tasks are stored and published. Each process has its own connections."""

    url: str
    new_bus: Callable[[], Awaitable[Bus]]
    deps: list[Deps] = field(default_factory=list)

    async def connect(self) -> Deps:
        """The ports of one more process."""
        bus = await self.new_bus()
        settings = Settings(_env_file=None, REDIS_URL=f"redis://kurs:{PASSWORD}@redis/0")
        store = accounts.connect(self.url, TaskPublisher(bus))
        self.deps.append(make_deps(settings, bus=bus, accounts=store))
        return self.deps[-1]


@pytest.fixture(scope="module")
def split(request: pytest.FixtureRequest) -> Site:
    """PostgreSQL and RabbitMQ, for all tests of this module: each begins with an empty table."""
    postgres: servers.Postgres = request.getfixturevalue("postgres")
    rabbit: servers.Rabbit = request.getfixturevalue("rabbit")
    vhost = rabbit.create_vhost()
    return Site(postgres.create_database(), lambda: rabbits.connect(vhost))


@pytest.fixture(params=["one process", "split"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    if request.param == "split":
        site = request.getfixturevalue("split")
        await sql.migrate(site.url)
        engine = make_engine(site.url)
        async with engine.begin() as connection:
            await connection.execute(delete(tasks))
        await engine.dispose()
    else:
        shared = MemoryBus()
        site = Site(f"sqlite+aiosqlite:///{tmp_path}/kurs.db", lambda: asyncio.sleep(0, shared))
        await sql.migrate(site.url)
    site.deps = []
    yield site
    for deps in site.deps:
        await deps.accounts.close()
        await deps.bus.close()


@asynccontextmanager
async def running_process(site: Site, *specs: TaskSpec) -> AsyncIterator[Deps]:
    """One process that runs tasks."""
    deps, by_name = await site.connect(), {spec.name: spec for spec in specs}
    workers = Workers(deps, by_name, QUICK)
    async with running_jobs(workers.run(), Sweep(deps, by_name, QUICK, workers.begin).run()):
        yield deps


async def add_task(deps: Deps, name: str, **fields: object) -> Task:
    async with deps.accounts.transaction() as tx:
        return await tx.tasks.add(NewTask(name=name, **fields), deps.clock.now())  # type: ignore[arg-type]


async def stored_task(deps: Deps, task: Task) -> Task:
    async with deps.accounts.transaction() as tx:
        found = await tx.tasks.get(task.id)
    assert found
    return found


async def reaches(deps: Deps, task: Task, *states: TaskState) -> Task:
    """The task once it is in one of the states."""

    async def reached() -> bool:
        return (await stored_task(deps, task)).state in states

    await eventually(reached)
    return await stored_task(deps, task)


async def finished(deps: Deps, task: Task) -> Task:
    return await reaches(deps, task, *FINISHED_STATES)


async def forever(_context: TaskContext) -> None:
    await asyncio.Event().wait()


async def not_here(_task: Task) -> None:
    """For a sweep without workers."""


async def nothing(_context: TaskContext) -> None:
    return


async def test_task_runs_with_its_arguments_and_leaves_its_result(site: Site) -> None:
    class Pair(Struct):
        base: str
        amount: int

    async def double(context: TaskContext, pair: Pair) -> Pair:
        with context.outside():
            await asyncio.sleep(0.02)
        return Pair(pair.base, pair.amount * 2)

    spec = TaskSpec("double", double, arguments=Pair)
    async with running_process(site, spec) as deps, running_process(site, spec):
        added = [await add_task(deps, "double", arguments=Pair("BTC", n), queue=q) for n, q in enumerate(TaskQueue)]
        ended = [await finished(deps, task) for task in added]
    assert [task.result for task in ended] == ['{"base":"BTC","amount":0}', '{"base":"BTC","amount":2}']
    assert {(task.state, task.attempt) for task in ended} == {(TaskState.SUCCEEDED, 1)}
    assert all(task.outside_ms >= 20 for task in ended)


async def test_each_transition_is_logged_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "services.task_publisher")
    async with running_process(site, TaskSpec("x", nothing)) as deps:
        task = await add_task(deps, "x")
        await finished(deps, task)
    lines = [record.getMessage() for record in caplog.records if getattr(record, "task", "") == task.id]
    assert lines == ["task x: queued", "task x: running", "task x: succeeded"]


async def test_failing_task_is_retried_and_can_be_replayed(site: Site) -> None:
    calls = list[int]()

    async def fail_twice(context: TaskContext) -> None:
        calls.append(context.task.attempt)
        if len(calls) < 3:
            raise ValueError(f"redis://kurs:{PASSWORD}@redis/0 is down\n" + "x" * 1_000)

    async with running_process(site, TaskSpec("x", fail_twice, max_attempts=2)) as deps:
        failed = await finished(deps, await add_task(deps, "x"))
        assert (failed.state, failed.attempt) == (TaskState.FAILED, 2)
        assert failed.error
        assert failed.error.startswith("ValueError: redis://***@redis/0 is down")
        assert len(failed.error) <= 300
        assert failed.error.isprintable()
        async with deps.accounts.transaction() as tx:
            assert await tx.tasks.replay(failed.id, deps.clock.now())
        again = await finished(deps, failed)
    assert (again.state, again.error) == (TaskState.SUCCEEDED, None)
    assert calls == [1, 2, 1]


async def test_unknown_task_fails_after_its_attempts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.core.tasks.FIRST_RETRY_MS", 1)
    async with running_process(site) as deps:
        failed = await finished(deps, await add_task(deps, "removed"))
    assert failed.error == "there is no task 'removed' in this version of Kurs"


async def test_task_ends_at_its_time_limit_even_if_it_does_not_want_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.accounts.attempts.STOP_TIMEOUT_SECONDS", 0.1)
    released = asyncio.Event()

    async def stubborn(_context: TaskContext) -> None:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    specs = [TaskSpec(f.__name__, f, time_limit=0.05, max_attempts=1) for f in (forever, stubborn)]
    async with running_process(site, *specs, TaskSpec("x", nothing)) as deps:
        added = [await add_task(deps, name) for name in ("forever", "stubborn") * MAX_RUNNING]
        ended = [await finished(deps, task) for task in added]
        await finished(deps, await add_task(deps, "x"))  # there is room again
        released.set()
    assert {(task.state, task.error) for task in ended} == {(TaskState.FAILED, "it did not end within 0.05 s")}


async def test_running_task_is_cancelled(site: Site) -> None:
    async with running_process(site, TaskSpec("forever", forever)) as deps, running_process(site) as other:
        task = await reaches(deps, await add_task(deps, "forever"), TaskState.RUNNING, TaskState.SCHEDULED)
        async with other.accounts.transaction() as tx:
            await tx.tasks.cancel(task.id, other.clock.now())
        assert (await finished(deps, task)).state is TaskState.CANCELLED


async def test_progress_is_saved(site: Site) -> None:
    async def report(context: TaskContext) -> None:
        for percent in (40, 50, 60):  # the last two within the same second
            await context.progress(percent)
        await asyncio.Event().wait()

    async with running_process(site, TaskSpec("x", report)) as deps:
        task = await add_task(deps, "x")

        async def reported() -> bool:
            return (await stored_task(deps, task)).progress == 40

        await eventually(reported)


async def test_normal_tasks_do_not_delay_high_ones(site: Site) -> None:
    async with running_process(site, TaskSpec("forever", forever), TaskSpec("x", nothing)) as deps:
        busy = [await add_task(deps, "forever") for _ in range(MAX_RUNNING)]
        for task in busy:
            await reaches(deps, task, TaskState.RUNNING)
        waiting = await add_task(deps, "x")
        await finished(deps, await add_task(deps, "x", queue=TaskQueue.HIGH))
        assert (await stored_task(deps, waiting)).state is TaskState.QUEUED


async def test_stopping_process_lets_tasks_end_or_gives_them_back(site: Site) -> None:
    stopping = asyncio.Event()

    async def ends_soon(_context: TaskContext) -> None:
        await stopping.wait()

    specs = TaskSpec("forever", forever), TaskSpec("ends_soon", ends_soon)
    async with running_process(site, *specs) as deps:
        added = [await add_task(deps, spec.name) for spec in specs]
        for task in added:
            await reaches(deps, task, TaskState.RUNNING)
        stopping.set()
    given_back, ended = [await stored_task(deps, task) for task in added]
    assert ended.state is TaskState.SUCCEEDED
    assert (given_back.state, given_back.attempt, given_back.error) == (TaskState.QUEUED, 0, None)
    async with running_process(site, TaskSpec("forever", nothing)) as other:
        again = await finished(other, given_back)
    assert (again.state, again.attempt) == (TaskState.SUCCEEDED, 1)


async def test_task_of_a_worker_that_hangs_is_run_by_another_one(site: Site) -> None:
    """A worker that gives no sign of life: it comes back, and what it did then is not saved."""
    ran, hangs_no_more = list[str](), asyncio.Event()

    async def hang(_context: TaskContext) -> str:
        ran.append("first")
        await hangs_no_more.wait()
        return "first"

    async def end(_context: TaskContext) -> str:
        ran.append("second")
        return "second"

    hanging = await site.connect()
    workers = Workers(hanging, {"x": TaskSpec("x", hang)}, QUICK._replace(heartbeat=3600))
    async with running_jobs(workers.run()):
        task = await add_task(hanging, "x")
        await eventually(lambda: ran)
        async with running_process(site, TaskSpec("x", end)) as deps:
            ended = await finished(deps, task)
            hangs_no_more.set()
        await eventually(lambda: not workers._working)
        assert await stored_task(hanging, task) == ended
    assert ended.result == '"second"'
    assert ended.attempt == len(ran)  # the one that hangs may have claimed it once more


async def test_task_whose_workers_are_lost_each_time_fails(site: Site) -> None:
    hanging = await site.connect()
    workers = Workers(hanging, {"x": TaskSpec("x", forever)}, QUICK._replace(heartbeat=3600))
    specs = {"x": TaskSpec("x", forever, max_attempts=2)}
    async with running_jobs(workers.run(), Sweep(hanging, specs, QUICK, workers.begin).run()):
        ended = await finished(hanging, await add_task(hanging, "x"))
    assert (ended.state, ended.error, ended.attempt) == (TaskState.FAILED, "its worker has ended or hangs", 2)


async def test_doubled_ids_run_a_task_once(site: Site) -> None:
    runs = list[int]()

    async def count(_context: TaskContext) -> None:
        runs.append(1)

    async with running_process(site, TaskSpec("x", count)) as deps, running_process(site, TaskSpec("x", count)):
        task = await add_task(deps, "x")
        for _ in range(20):
            await deps.bus.publish(MESSAGES[task.queue](task.id), MESSAGES[task.queue]("unknown"))
        await finished(deps, task)
        await eventually(lambda: is_empty(deps, TaskQueue.NORMAL))
    assert runs == [1]


async def is_empty(deps: Deps, queue: TaskQueue) -> bool:
    return await deps.bus.queue_depth(bus_queue(queue)) == 0


async def test_ids_that_the_bus_has_lost_are_published_again(site: Site) -> None:
    """The process that added them ended before it could publish."""
    silent = accounts.connect(site.url)
    async with silent.transaction() as tx:
        added = [await tx.tasks.add(NewTask(name="x", queue=queue), 1) for queue in TaskQueue for _ in range(5)]
    await silent.close()
    async with running_process(site, TaskSpec("x", nothing)) as deps:
        for task in added:
            assert (await finished(deps, task)).attempt == 1


async def test_bus_does_not_fill_while_no_worker_runs(site: Site) -> None:
    """Two processes sweep, and take each id for lost at once."""
    impatient = QUICK._replace(unclaimed_ms=0)
    deps = [await site.connect() for _ in range(2)]
    sweeps = [Sweep(each, {}, impatient, not_here) for each in deps]
    for _ in range(5):
        await add_task(deps[0], "x")
    for _ in range(20):
        await asyncio.gather(*(sweep.sweep() for sweep in sweeps))
    assert await deps[0].bus.queue_depth("tasks.normal") <= 10  # both may have looked at the same time


async def test_periodic_task_is_run_once_in_each_interval_by_one_of_all_processes(site: Site) -> None:
    running, most, begun = 0, 0, list[str | None]()

    async def poll(context: TaskContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        begun.append(context.task.slot)
        await asyncio.sleep(0.05)
        running -= 1

    spec = TaskSpec("poll", poll, every_seconds=1, queue=TaskQueue.HIGH)
    async with running_process(site, spec) as deps, running_process(site, spec), running_process(site, spec):
        await eventually(lambda: len(begun) >= 3)
    assert most == 1
    assert len(begun) == len(set(begun))
    async with deps.accounts.transaction() as tx:
        slots = [task.slot for task in await tx.tasks.find(TaskFilter(name="poll"), 99)]
    assert len(slots) == len(set(slots))


async def test_interval_is_left_out_while_the_last_task_has_not_ended(site: Site) -> None:
    """However many intervals pass, one task waits."""
    deps = await site.connect()
    sweep = Sweep(deps, {"poll": TaskSpec("poll", nothing, every_seconds=1)}, QUICK, not_here)
    first = deps.clock.now() // 1000
    while deps.clock.now() // 1000 < first + 3:
        await sweep.sweep()
        await asyncio.sleep(0.1)
    async with deps.accounts.transaction() as tx:
        assert len(await tx.tasks.find(TaskFilter(name="poll"), 99)) == 1


class BrokenBus(MemoryBus):
    """A bus that takes nothing while it is broken."""

    broken = True

    async def publish(self, *messages: object) -> None:
        if self.broken:
            raise Unavailable("the bus does not respond")
        await super().publish(*messages)  # type: ignore[arg-type]

    async def queue_depth(self, queue: str) -> int:
        if self.broken:
            raise Unavailable("the bus does not respond")
        return await super().queue_depth(queue)


async def test_tasks_run_while_the_bus_is_down_and_when_it_is_back(tmp_path: Path) -> None:
    bus = BrokenBus()
    site = Site(f"sqlite+aiosqlite:///{tmp_path}/kurs.db", lambda: asyncio.sleep(0, bus))
    await sql.migrate(site.url)
    async with running_process(site, TaskSpec("x", nothing), TaskSpec("forever", forever)) as deps:
        for task in [await add_task(deps, "x") for _ in range(2 * MAX_RUNNING)]:
            assert (await finished(deps, task)).state is TaskState.SUCCEEDED
        for task in [await add_task(deps, "forever") for _ in range(MAX_RUNNING)]:
            await reaches(deps, task, TaskState.RUNNING)
        waiting = await add_task(deps, "x")
        await finished(deps, await add_task(deps, "x", queue=TaskQueue.HIGH))
        assert (await stored_task(deps, waiting)).state is TaskState.QUEUED
        bus.broken = False
        await finished(deps, await add_task(deps, "x", queue=TaskQueue.HIGH))
    await deps.accounts.close()
