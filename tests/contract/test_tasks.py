"""The table of tasks, on either database: one of many workers gets a task, and each task ends once."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from msgspec import Struct
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from services.account_ports import AccountStore
from services.adapters.sql.account_tables import persons
from services.adapters.sql.engine import make_engine
from services.adapters.sql.rows import to_row
from services.core.accounts.model import Person
from services.core.tasks import (
    FINISHED_STATES,
    AttemptEnd,
    LeaseWatch,
    NewTask,
    RunningTask,
    Task,
    TaskEvent,
    TaskFilter,
    TaskQueue,
    TaskState,
    WaitingTasks,
    event_without_success,
)

NOW = 1_800_000_000_000
POLL = NewTask(name="poll", queue=TaskQueue.HIGH)
SUCCESS = AttemptEnd(event=TaskEvent.SUCCEEDED, result='{"n":1}', outside_ms=40)
FAILURE = AttemptEnd(event=TaskEvent.FAILED, error="ValueError: no", outside_ms=2)
RETRY = AttemptEnd(event=TaskEvent.RETRIED, error="ValueError: no", due=NOW + 2_000, outside_ms=2)
RELEASE, LOSS = AttemptEnd(event=TaskEvent.RELEASED), AttemptEnd(event=TaskEvent.LOST)


@pytest.fixture
async def database(url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(url)
    yield engine
    await engine.dispose()


async def add_task(store: AccountStore, task: NewTask = POLL, now: int = NOW) -> Task:
    async with store.transaction() as tx:
        return await tx.tasks.add(task, now)


async def claim_task(store: AccountStore, task: Task, worker: str = "w", now: int = NOW) -> Task:
    async with store.transaction() as tx:
        claimed = await tx.tasks.claim(task.id, worker, now)
    assert claimed
    return claimed


async def end_attempt(store: AccountStore, claimed: Task, end: AttemptEnd, now: int = NOW + 5) -> Task | None:
    async with store.transaction() as tx:
        return await tx.tasks.end_attempt(claimed, end, now)


async def stored_task(store: AccountStore, task: Task) -> Task | None:
    async with store.transaction() as tx:
        return await tx.tasks.get(task.id)


class Arguments(Struct):
    """What a task works on."""

    symbol: str


async def test_added_task_is_stored_as_it_was_returned(account_store: AccountStore) -> None:
    added = await add_task(account_store, NewTask(name="x", arguments=Arguments("BTC"), due=NOW + 1))
    assert await stored_task(account_store, added) == added
    assert (added.state, added.arguments, added.due) == (TaskState.SCHEDULED, '{"symbol":"BTC"}', NOW + 1)
    at_once = await add_task(account_store, NewTask(name="x", due=NOW - 1))
    assert (at_once.state, at_once.due, at_once.queued_at) == (TaskState.QUEUED, NOW, NOW)


async def test_task_of_a_failed_transaction_does_not_exist(account_store: AccountStore) -> None:
    async def add_and_fail() -> None:
        async with account_store.transaction() as tx:
            await tx.tasks.add(POLL, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await add_and_fail()
    async with account_store.transaction() as tx:
        assert await tx.tasks.find(TaskFilter(), 9) == []


async def test_one_of_many_workers_claims_a_task(account_store: AccountStore) -> None:
    task = await add_task(account_store)

    async def claim(worker: str) -> Task | None:
        async with account_store.transaction() as tx:
            return await tx.tasks.claim(task.id, worker, NOW + 1)

    claims = [claim for claim in await asyncio.gather(*map(claim, "abcdefgh")) if claim]
    assert len(claims) == 1
    (claimed,) = claims
    assert claimed == await stored_task(account_store, task)
    assert (claimed.state, claimed.attempt, claimed.started_at) == (TaskState.RUNNING, 1, NOW + 1)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (SUCCESS, {"state": "succeeded", "result": '{"n":1}', "error": None, "finished_at": NOW + 5, "attempt": 1}),
        (FAILURE, {"state": "failed", "error": "ValueError: no", "finished_at": NOW + 5, "attempt": 1}),
        (RETRY, {"state": "scheduled", "due": NOW + 2_000, "finished_at": None, "attempt": 1}),
        (RELEASE, {"state": "queued", "attempt": 0, "queued_at": NOW + 5, "worker": None, "error": None}),
        (LOSS, {"state": "queued", "attempt": 1, "queued_at": NOW + 5, "worker": None}),
    ],
)
async def test_attempt_ends_once(account_store: AccountStore, end: AttemptEnd, expected: dict[str, object]) -> None:
    claimed = await claim_task(account_store, await add_task(account_store))
    ended = await end_attempt(account_store, claimed, end)
    assert ended
    assert {name: getattr(ended, name) for name in expected} == expected
    assert ended.revision == claimed.revision + 1
    assert ended == await stored_task(account_store, claimed)
    for late in (SUCCESS, FAILURE, RETRY, RELEASE):
        assert await end_attempt(account_store, claimed, late) is None
    async with account_store.transaction() as tx:
        assert await tx.tasks.set_progress(claimed, 50) is None
        assert await tx.tasks.renew("w", [claimed.id]) == []


async def test_claim_that_was_lost_changes_nothing_of_the_next_one(account_store: AccountStore) -> None:
    task = await add_task(account_store)
    first = await claim_task(account_store, task)
    async with account_store.transaction() as tx:
        (seen,) = await tx.tasks.running()
        assert await tx.tasks.renew("w", [task.id]) == [RunningTask(**{**to_row(seen), "heartbeat": 1})]
        assert await tx.tasks.end_lost(seen, LOSS, NOW) is None  # it has given a sign of life since
        (seen,) = await tx.tasks.running()
        assert await tx.tasks.end_lost(seen, LOSS, NOW)
    second = await claim_task(account_store, task)
    assert (second.worker, second.attempt) == (first.worker, 2)
    assert await end_attempt(account_store, first, SUCCESS) is None
    ended = await end_attempt(account_store, second, SUCCESS)
    assert ended
    assert ended.state is TaskState.SUCCEEDED


async def test_cancelling_ends_what_waits_and_requests_it_of_what_runs(account_store: AccountStore) -> None:
    async def cancel(task: Task) -> Task | None:
        async with account_store.transaction() as tx:
            return await tx.tasks.cancel(task.id, NOW)

    for waiting in (await add_task(account_store), await add_task(account_store, NewTask(name="x", due=NOW + 9))):
        cancelled = await cancel(waiting)
        assert cancelled
        assert (cancelled.state, cancelled.finished_at) == (TaskState.CANCELLED, NOW)
        assert await cancel(waiting) is None
    claimed = await claim_task(account_store, await add_task(account_store))
    requested = await cancel(claimed)
    assert requested
    assert (requested.state, requested.finished_at) == (TaskState.RUNNING, None)
    async with account_store.transaction() as tx:
        assert [task.cancel_requested for task in await tx.tasks.renew("w", [claimed.id])] == [True]


async def test_replayed_task_begins_again(account_store: AccountStore) -> None:
    task = await add_task(account_store)
    async with account_store.transaction() as tx:
        assert await tx.tasks.replay(task.id, NOW) is None
    await end_attempt(account_store, await claim_task(account_store, task), FAILURE)
    async with account_store.transaction() as tx:
        again = await tx.tasks.replay(task.id, NOW + 9)
        assert again
        assert (again.state, again.attempt, again.finished_at) == (TaskState.QUEUED, 0, None)
        assert await tx.tasks.replay(task.id, NOW + 9) is None


async def test_due_tasks_are_queued_by_one_of_many_sweeps(account_store: AccountStore) -> None:
    for delay in range(20):
        await add_task(account_store, NewTask(name="x", due=NOW + 1 + delay))

    async def sweep() -> list[Task]:
        async with account_store.transaction() as tx:
            return await tx.tasks.queue_due(NOW + 10, 7)

    found = [task for each in await asyncio.gather(*(sweep() for _ in range(4))) for task in each]
    found += await sweep()
    assert sorted(task.due for task in found) == [*range(NOW + 1, NOW + 11)]
    assert {task.queued_at for task in found} == {NOW + 10}


async def test_slot_is_filled_once_and_not_before_the_last_one_has_ended(account_store: AccountStore) -> None:
    async def add(slot: str) -> Task | None:
        async with account_store.transaction() as tx:
            return await tx.tasks.add_periodic(POLL, slot, NOW)

    first, *others = await asyncio.gather(*(add("poll@1") for _ in range(5)))
    assert first
    assert others == [first] * 4
    assert await add("poll@2") is None
    await end_attempt(account_store, await claim_task(account_store, first), SUCCESS)
    assert await add("poll@1") == await stored_task(account_store, first)
    second = await add("poll@2")
    assert second
    assert (second.slot, second.id != first.id) == ("poll@2", True)


async def test_waiting_tasks_are_counted_and_given_to_the_bus_again(account_store: AccountStore) -> None:
    for late in range(3):
        await add_task(account_store, POLL, NOW + late)
    await add_task(account_store, NewTask(name="x"), NOW + 9)
    await claim_task(account_store, await add_task(account_store, POLL, NOW - 5))
    async with account_store.transaction() as tx:
        assert sorted(await tx.tasks.waiting(NOW + 1), key=lambda each: each.queue) == [
            WaitingTasks(queue=TaskQueue.HIGH, count=3, unclaimed=2, oldest_due=NOW),
            WaitingTasks(queue=TaskQueue.NORMAL, count=1, unclaimed=0, oldest_due=NOW + 9),
        ]
        again = [await tx.tasks.requeue_unclaimed(TaskQueue.HIGH, NOW + 1, NOW + 20, 1) for _ in range(3)]
        assert [[task.created_at for task in each] for each in again] == [[NOW], [NOW + 1], []]


async def test_tasks_are_listed_newest_first_in_pages(account_store: AccountStore, database: AsyncEngine) -> None:
    owner = Person(id="p", name="p", password_hash="", created_at=NOW, password_changed_at=NOW)
    async with database.begin() as connection:
        await connection.execute(insert(persons).values(to_row(owner)))
    names = ["a", "b", "a", "b", "a"]
    added = [
        await add_task(account_store, NewTask(name=name, person="p" if number else None), NOW + number)
        for number, name in enumerate(names)
    ]
    await claim_task(account_store, added[4])

    async def find(limit: int = 9, before: str | None = None, **wanted: object) -> list[int]:
        async with account_store.transaction() as tx:
            found = await tx.tasks.find(TaskFilter(**wanted), limit, before)  # type: ignore[arg-type]
        return [task.created_at - NOW for task in found]

    assert await find() == [4, 3, 2, 1, 0]
    assert await find(2, added[3].id) == [2, 1]
    assert await find(person="p") == [4, 3, 2, 1]
    assert await find(person="q") == []
    assert await find(name="a") == [4, 2, 0]
    assert await find(name="a", person="p", state=TaskState.QUEUED) == [2]


async def test_finished_tasks_are_deleted_when_they_are_old(account_store: AccountStore) -> None:
    tasks = [await add_task(account_store) for _ in range(4)]
    for late, task in enumerate(tasks[:3]):
        await end_attempt(account_store, await claim_task(account_store, task), SUCCESS, NOW + late)
    async with account_store.transaction() as tx:
        assert [await tx.tasks.delete_finished(NOW + 2, 1) for _ in range(3)] == [1, 1, 0]
    assert [bool(await stored_task(account_store, task)) for task in tasks] == [False, False, True, True]


class Chaos:
    """Workers that succeed, fail, stall, stop and vanish, in an order that the seed gives."""

    def __init__(self, store: AccountStore, seed: int, tasks: list[Task]) -> None:
        self.store, self.random = store, random.Random(seed)
        self.ids = [task.id for task in tasks]
        self.ends, self.replays = Counter[str](), Counter[str]()
        self.stalled: list[Task] = []  # their workers hold claims that others may have taken

    def note(self, changed: Task | None) -> None:
        if changed and changed.state in FINISHED_STATES:
            self.ends[changed.id] += 1

    async def work(self, worker: str) -> None:
        """Claim one task, and do with it what the seed says."""
        async with self.store.transaction() as tx:
            claimed = await tx.tasks.claim(self.random.choice(self.ids), worker, NOW)
        if claimed is None:
            return
        await asyncio.sleep(0)
        if self.random.random() < 0.3:
            self.stalled.append(claimed)
        elif self.random.random() < 0.8:
            await self.end(claimed)

    async def end(self, claimed: Task) -> None:
        failure = event_without_success(claimed.attempt, 2, cancel_requested=claimed.cancel_requested)
        event = self.random.choice([TaskEvent.SUCCEEDED, failure, TaskEvent.RELEASED])
        self.note(await end_attempt(self.store, claimed, AttemptEnd(event=event, due=NOW)))

    async def sweep(self, watch: LeaseWatch) -> None:
        async with self.store.transaction() as tx:
            await tx.tasks.queue_due(NOW, 100)
            lost = watch.look(await tx.tasks.running())
        for each in lost:
            event = event_without_success(each.attempt, 2, cancel_requested=each.cancel_requested)
            end = LOSS if event is TaskEvent.RETRIED else AttemptEnd(event=event)
            async with self.store.transaction() as tx:
                self.note(await tx.tasks.end_lost(each, end, NOW))

    async def disturb(self) -> None:
        task_id, choice = self.random.choice(self.ids), self.random.random()
        if choice < 0.2 and self.stalled:
            await self.end(self.stalled.pop(self.random.randrange(len(self.stalled))))
        elif choice < 0.25:
            async with self.store.transaction() as tx:
                self.note(await tx.tasks.cancel(task_id, NOW))
        elif choice < 0.35:
            async with self.store.transaction() as tx:
                self.replays[task_id] += await tx.tasks.replay(task_id, NOW) is not None


@pytest.mark.parametrize("seed", range(3))
async def test_each_task_ends_once_however_workers_stall_and_vanish(account_store: AccountStore, seed: int) -> None:
    tasks = [await add_task(account_store, NewTask(name="x")) for _ in range(15)]
    chaos, watches = Chaos(account_store, seed, tasks), [LeaseWatch(2), LeaseWatch(3)]
    async with asyncio.timeout(60):
        for _ in range(60):
            await asyncio.gather(*map(chaos.work, "abc"), chaos.disturb(), *map(chaos.sweep, watches))
        chaos.replays.update(dict.fromkeys(chaos.ids, 0))
        while True:  # nothing is cancelled or replayed any more
            await asyncio.gather(*map(chaos.work, "abc"), *map(chaos.sweep, watches))
            async with account_store.transaction() as tx:
                if {task.state for task in await tx.tasks.find(TaskFilter(), 99)} <= FINISHED_STATES:
                    break
    for claimed in chaos.stalled:
        assert await end_attempt(account_store, claimed, SUCCESS) is None
    assert chaos.ends == {task_id: 1 + chaos.replays[task_id] for task_id in chaos.ids}
