"""Adds tasks, injects faults, and counts how each task ended."""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select

from loadtest.background import BackgroundThread
from loadtest.faults.supervisor import Supervisor
from loadtest.task_faults.worker import READY, SPECS
from services.account_ports import AccountStore
from services.adapters import rabbit as rabbits
from services.adapters import sql
from services.adapters.memory import MemoryBus
from services.adapters.sql import accounts
from services.adapters.sql.account_tables import tasks as tasks_table
from services.adapters.sql.engine import make_engine
from services.core.tasks import FINISHED_STATES, NewTask, Task, TaskFilter, TaskQueue, TaskState
from services.task_publisher import TaskPublisher
from tests.servers import Rabbit, Server

ROOT = Path(__file__).parents[2]
WORKERS = 2  # where they share a broker
BATCH = 50  # tasks added in one transaction
BROKER_PAUSE_SECONDS = 1  # between two restarts
KILL_PAUSE_SECONDS = (6, 14)  # between two kills of the worker; divided by the number of workers
MAX_SECONDS = 3_600  # of a run
SHOWN = 5  # of what is wrong
REPORT_SECONDS = 10  # between two lines about the progress


class TaskPlace(NamedTuple):
    """Where tasks are stored and published. Without a broker the bus is in the memory of the one worker process."""

    folder: Path
    database: str
    bus: str = "memory://"
    broker: Rabbit | None = None


class TaskPlan(NamedTuple):
    """What is added, within `seconds`. `failing`: one of so many tasks always fails; `poisons`: harmful ones."""

    seed: int
    tasks: int
    seconds: float = 0
    failing: int = 100
    poisons: Sequence[str] = ()
    kills: bool = True


class TaskRunResult(NamedTuple):
    """What came out. `doubled`: tasks that ended more than once by the logs of the workers."""

    tasks: int
    seconds: float
    states: Mapping[str, int]
    attempts: Mapping[int, int]
    wrong: Sequence[str]
    doubled: Sequence[str]
    kills: int
    restarts: int
    worst_seconds: float  # from a harmless task's creation to its end

    @property
    def is_good(self) -> bool:
        """Whether each task ended exactly once, as it should."""
        return not self.wrong and not self.doubled


class BrokerRestarts(BackgroundThread):
    """Restarts a broker again and again."""

    def __init__(self, broker: Rabbit) -> None:
        super().__init__()
        self._broker, self.count = broker, 0

    def run(self) -> None:
        """Restart until stopped. The broker runs then."""
        while not self.stop_requested.wait(BROKER_PAUSE_SECONDS):
            self._broker.restart()
            self.count += 1


class WorkerKills(BackgroundThread):
    """Kills a random worker again and again. The supervisor starts it again."""

    def __init__(self, supervisor: Supervisor, seed: int) -> None:
        super().__init__()
        self._supervisor, self._random, self.count = supervisor, random.Random(seed), 0

    def run(self) -> None:
        """Kill until stopped."""
        names = sorted(self._supervisor.servers)
        while not self.stop_requested.wait(self._random.uniform(*KILL_PAUSE_SECONDS) / len(names)):
            name = self._random.choice(names)
            with self._supervisor.locks[name]:
                self._supervisor.servers[name].kill()
            self.count += 1


def run_plan(place: TaskPlace, plan: TaskPlan) -> TaskRunResult:
    """Run a plan to the end of all its tasks. Raises TimeoutError."""
    asyncio.run(sql.migrate(place.database))
    started = time.monotonic()
    with running_workers(place) as supervisor, ExitStack() as stack:
        kills = stack.enter_context(WorkerKills(supervisor, plan.seed)) if plan.kills else None
        restarts = stack.enter_context(BrokerRestarts(place.broker)) if plan.kills and place.broker else None
        ended = asyncio.run(_run_tasks(place, plan))
    seconds, logs = time.monotonic() - started, [server.folder / "log" for server in supervisor.servers.values()]
    wrong = [text for task in ended if (text := _wrong(task))]
    return TaskRunResult(
        tasks=len(ended),
        seconds=seconds,
        states=Counter(str(task.state) for task in ended),
        attempts=Counter(task.attempt for task in ended),
        wrong=wrong[:SHOWN],
        doubled=_doubled(logs)[:SHOWN],
        kills=kills.count if kills else 0,
        restarts=restarts.count if restarts else 0,
        worst_seconds=max((_seconds(task) for task in ended if task.name == "work"), default=0),
    )


@contextmanager
def running_workers(place: TaskPlace) -> Iterator[Supervisor]:
    """Run the worker processes, each started again when it has ended."""
    workers = {f"worker {number}": _worker(place, number) for number in range(WORKERS if place.broker else 1)}
    with Supervisor(workers) as supervisor:
        yield supervisor
    for each in workers.values():
        each.stop()


def _worker(place: TaskPlace, number: int) -> Server:
    room = place.folder / f"worker{number}"
    room.mkdir()
    command = [sys.executable, "-m", "loadtest.task_faults.worker", place.database, place.bus]
    ready = room / "log"
    env = {"PYTHONPATH": str(ROOT)}
    return Server(f"worker {number}", "", room, command, lambda: READY in ready.read_text(errors="replace"), env)


async def _run_tasks(place: TaskPlace, plan: TaskPlan) -> list[Task]:
    """Add the tasks, wait until all have ended, and return them."""
    bus = await rabbits.connect(place.bus) if place.broker else MemoryBus()
    store = accounts.connect(place.database, TaskPublisher(bus))
    try:
        async with asyncio.timeout(MAX_SECONDS):
            await _add_tasks(store, plan)
            await _wait_until_finished(place.database, plan.tasks + len(plan.poisons))
        return await _all_tasks(store)
    finally:
        await store.close()
        await bus.close()


async def _add_tasks(store: AccountStore, plan: TaskPlan) -> None:
    chance = random.Random(plan.seed)
    new = [
        NewTask(name="work" if (number + 1) % plan.failing else "fail", queue=chance.choice([*TaskQueue]))
        for number in range(plan.tasks)
    ]
    poisons = [NewTask(name=name, queue=chance.choice([*TaskQueue])) for name in plan.poisons]
    for start in range(0, len(new), BATCH):
        async with store.transaction() as tx:
            for task in (*(poisons if not start else ()), *new[start : start + BATCH]):
                await tx.tasks.add(task, time.time_ns() // 1_000_000)
        await asyncio.sleep(plan.seconds * BATCH / plan.tasks)


async def _wait_until_finished(database: str, number: int) -> None:
    engine, reported_at = make_engine(database), time.monotonic()
    try:
        while True:
            async with engine.connect() as connection:
                finished = select(func.count()).where(tasks_table.c.state.in_(FINISHED_STATES))
                count = await connection.scalar(finished)
            if count == number:
                return
            if time.monotonic() - reported_at >= REPORT_SECONDS:
                reported_at = time.monotonic()
                print(f"{count} of {number} tasks have ended", file=sys.stderr, flush=True)
            await asyncio.sleep(0.5)
    finally:
        await engine.dispose()


async def _all_tasks(store: AccountStore) -> list[Task]:
    async with store.transaction() as tx:
        return await tx.tasks.find(TaskFilter(), 1_000_000)


def _wrong(task: Task) -> str:
    """Return what is wrong with a task's end; "" if nothing is.

    A task whose worker was killed in each of its attempts has failed as it should.
    """
    lost = task.attempt == SPECS[task.name].max_attempts and task.error == "its worker has ended or hangs"
    expected = TaskState.SUCCEEDED if task.name == "work" and not lost else TaskState.FAILED
    return "" if task.state is expected else f"{task.name} {task.id}: {task.state} after {task.attempt}: {task.error}"


def _seconds(task: Task) -> float:
    return ((task.finished_at or 0) - task.created_at) / 1000


def _doubled(logs: Sequence[Path]) -> list[str]:
    """Return the ids of tasks that ended more than once, by the transitions in the logs of all workers."""
    ends = Counter[str]()
    for line in (line for path in logs for line in path.read_text(errors="replace").splitlines()):
        if '"task"' not in line or not line.endswith("}"):
            continue  # or cut off by a kill
        entry = json.loads(line)
        if entry["message"].partition(": ")[2].split(" ")[0] in FINISHED_STATES:
            ends[entry["task"]] += 1
    return [task_id for task_id, count in ends.items() if count > 1]
