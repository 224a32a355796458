"""The table of tasks.

Each change is one UPDATE that names the states it may come from, so that of two processes one succeeds.
"""

import secrets
from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Update, case, delete, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.account_tables import tasks
from services.adapters.sql.rows import to_row, to_struct, to_structs
from services.core.accounts.ids import RANDOM_BYTES, uuid7
from services.core.tasks import (
    FINISHED_STATES,
    TRANSITIONS,
    AttemptEnd,
    NewTask,
    RunningTask,
    Task,
    TaskEvent,
    TaskFilter,
    TaskQueue,
    TaskState,
    TaskUpdate,
    WaitingTasks,
)

_RUNNING_COLUMNS = [tasks.c[name] for name in RunningTask.__struct_fields__]
_UNFINISHED = tasks.c.state.in_(set(TaskState) - FINISHED_STATES)


class SqlTasks:
    """The table of tasks, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.updates: list[TaskUpdate] = []  # what this transaction has changed

    async def add(self, task: NewTask, now: int) -> Task:
        """Add a task."""
        added = _to_task(task, now)
        await self._connection.execute(insert(tasks).values(to_row(added)))
        self.updates.append(TaskUpdate(added, is_transition=True))
        return added

    async def add_periodic(self, task: NewTask, slot: str, now: int) -> Task | None:
        """Return the task of a slot, which is added if no process has done that; None: an earlier one has not ended."""
        if existing := await self._first(tasks.c.slot == slot):
            return existing
        if await self._first(_UNFINISHED, tasks.c.name == task.name, tasks.c.slot != slot):
            return None
        added = msgspec.structs.replace(_to_task(task, now), slot=slot)
        dialect = postgresql if self._connection.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(tasks).values(to_row(added)).on_conflict_do_nothing(index_elements=["slot"])
        if not (await self._connection.execute(statement)).rowcount:
            return await self._first(tasks.c.slot == slot)
        self.updates.append(TaskUpdate(added, is_transition=True))
        return added

    async def get(self, task_id: str) -> Task | None:
        """Return a task."""
        return await self._first(tasks.c.id == task_id)

    async def find(self, wanted: TaskFilter, limit: int, before: str | None = None) -> list[Task]:
        """Return tasks, newest first: those with an id below `before`."""
        given = {name: value for name, value in to_row(wanted).items() if value is not None}
        statement = select(tasks).where(*(tasks.c[name] == value for name, value in given.items()))
        if before is not None:
            statement = statement.where(tasks.c.id < before)
        return to_structs(await self._connection.execute(statement.order_by(tasks.c.id.desc()).limit(limit)), Task)

    async def claim(self, task_id: str, worker: str, now: int) -> Task | None:
        """Claim a queued task for a worker. Of several workers one gets it."""
        claimed = {
            "worker": worker,
            "heartbeat": 0,
            "attempt": tasks.c.attempt + 1,
            "started_at": now,
            "progress": None,
        }
        return await self._change(_transition(TaskEvent.CLAIMED).where(tasks.c.id == task_id).values(claimed))

    async def renew(self, worker: str, task_ids: Collection[str]) -> list[RunningTask]:
        """Give a sign of life for tasks of a worker. Return those that it still holds."""
        held = tasks.c.state == TaskState.RUNNING, tasks.c.worker == worker, tasks.c.id.in_(task_ids)
        statement = update(tasks).where(*held).values(heartbeat=tasks.c.heartbeat + 1)
        return to_structs(await self._connection.execute(statement.returning(*_RUNNING_COLUMNS)), RunningTask)

    async def set_progress(self, claimed: Task, percent: int) -> Task | None:
        """Save the progress of a claimed task."""
        return await self._change(update(tasks).where(*_held(claimed)).values(progress=percent), is_transition=False)

    async def end_attempt(self, claimed: Task, end: AttemptEnd, now: int) -> Task | None:
        """Save how the attempt of a claim ended."""
        return await self._change(_ended(end, now).where(*_held(claimed)))

    async def end_lost(self, lost: RunningTask, end: AttemptEnd, now: int) -> Task | None:
        """Save that a worker is lost, if it has given no sign of life since."""
        return await self._change(_ended(end, now).where(*_held(lost), tasks.c.heartbeat == lost.heartbeat))

    async def cancel(self, task_id: str, now: int) -> Task | None:
        """Cancel a task; of a running one only request it from its worker."""
        before, after = TRANSITIONS[TaskEvent.CANCELLED]
        runs = tasks.c.state == TaskState.RUNNING
        changed = {
            "state": case((runs, tasks.c.state), else_=literal(after)),
            "finished_at": case((runs, None), else_=literal(now)),
            "cancel_requested": True,
        }
        return await self._change(update(tasks).where(tasks.c.id == task_id, tasks.c.state.in_(before)).values(changed))

    async def replay(self, task_id: str, now: int) -> Task | None:
        """Queue a failed task, with as many attempts as a new one."""
        changed = {"attempt": 0, "due": now, "queued_at": now, "finished_at": None, "cancel_requested": False}
        return await self._change(_transition(TaskEvent.REPLAYED).where(tasks.c.id == task_id).values(changed))

    async def queue_due(self, now: int, limit: int) -> list[Task]:
        """Queue scheduled tasks that are due."""
        due = tasks.c.state == TaskState.SCHEDULED, tasks.c.due <= now
        ids = await self._lock_ids(select(tasks.c.id).where(*due).order_by(tasks.c.due).limit(limit))
        return await self._change_all(_transition(TaskEvent.DUE).where(tasks.c.id.in_(ids)).values(queued_at=now))

    async def running(self) -> list[RunningTask]:
        """Return all tasks that run."""
        found = select(*_RUNNING_COLUMNS).where(tasks.c.state == TaskState.RUNNING)
        return to_structs(await self._connection.execute(found), RunningTask)

    async def waiting(self, unclaimed_since: int) -> list[WaitingTasks]:
        """Return what waits in each queue. `unclaimed`: given to the bus at `unclaimed_since` or before."""
        unclaimed = func.sum(case((tasks.c.queued_at <= unclaimed_since, 1), else_=0))
        columns = (
            tasks.c.queue,
            func.count().label("count"),
            unclaimed.label("unclaimed"),
            func.min(tasks.c.due).label("oldest_due"),
        )
        found = select(*columns).where(tasks.c.state == TaskState.QUEUED).group_by(tasks.c.queue)
        return to_structs(await self._connection.execute(found), WaitingTasks)

    async def requeue_unclaimed(self, queue: TaskQueue, unclaimed_since: int, now: int, limit: int) -> list[Task]:
        """Note that unclaimed tasks, the oldest first, are given to the bus again. Return them."""
        unclaimed = tasks.c.state == TaskState.QUEUED, tasks.c.queue == queue, tasks.c.queued_at <= unclaimed_since
        ids = await self._lock_ids(select(tasks.c.id).where(*unclaimed).order_by(tasks.c.due).limit(limit))
        statement = update(tasks).where(tasks.c.id.in_(ids)).values(queued_at=now)
        unclaimed_tasks = to_structs(await self._connection.execute(statement.returning(tasks)), Task)
        self.updates += [TaskUpdate(task, is_transition=False) for task in unclaimed_tasks]
        return unclaimed_tasks

    async def delete_finished(self, before: int, limit: int) -> int:
        """Delete tasks that ended before a time. Return how many."""
        old = select(tasks.c.id).where(tasks.c.finished_at < before).order_by(tasks.c.finished_at).limit(limit)
        ids = await self._lock_ids(old)
        return (await self._connection.execute(delete(tasks).where(tasks.c.id.in_(ids)))).rowcount

    async def _lock_ids(self, found: Select[str]) -> list[str]:
        """Return ids that no other transaction is changing.

        As a subquery of the UPDATE it would not do: PostgreSQL may run one with a limit more than once.
        """
        return [*await self._connection.scalars(found.with_for_update(skip_locked=True))]

    async def _first(self, *conditions: ColumnElement[bool]) -> Task | None:
        row = (await self._connection.execute(select(tasks).where(*conditions).limit(1))).first()
        return to_struct(row, Task) if row else None

    async def _change(self, statement: Update, *, is_transition: bool = True) -> Task | None:
        return next(iter(await self._change_all(statement, is_transition=is_transition)), None)

    async def _change_all(self, statement: Update, *, is_transition: bool = True) -> list[Task]:
        counted = statement.values(revision=tasks.c.revision + 1).returning(tasks)
        changed = to_structs(await self._connection.execute(counted), Task)
        self.updates += [TaskUpdate(task, is_transition) for task in changed]
        return changed


def _to_task(task: NewTask, now: int) -> Task:
    due = max(now, task.due or now)
    later = due > now
    return Task(
        id=uuid7(now, secrets.token_bytes(RANDOM_BYTES)),
        name=task.name,
        queue=task.queue,
        person=task.person,
        arguments=msgspec.json.encode(task.arguments).decode() if task.arguments else "{}",
        state=TaskState.SCHEDULED if later else TaskState.QUEUED,
        due=due,
        created_at=now,
        queued_at=None if later else now,
    )


def _transition(event: TaskEvent) -> Update:
    before, after = TRANSITIONS[event]
    return update(tasks).where(tasks.c.state.in_(before)).values(state=after)


def _held(claim: Task | RunningTask) -> tuple[ColumnElement[bool], ...]:
    """The claim of this worker and attempt, and no later one, holds the task."""
    return (
        tasks.c.id == claim.id,
        tasks.c.state == TaskState.RUNNING,
        tasks.c.worker == claim.worker,
        tasks.c.attempt == claim.attempt,
    )


def _ended(end: AttemptEnd, now: int) -> Update:
    """Return the change of a row at the end of an attempt. A stopping worker gives its attempt back."""
    changed: dict[str, Any] = {"worker": None, "outside_ms": tasks.c.outside_ms + end.outside_ms}
    after = TRANSITIONS[end.event].after
    if after in FINISHED_STATES:
        changed["finished_at"] = now
    if after is TaskState.QUEUED:
        changed["queued_at"] = now
    if end.event is TaskEvent.RELEASED:
        changed["attempt"] = tasks.c.attempt - 1
    if end.event is TaskEvent.SUCCEEDED:
        changed |= {"result": end.result, "error": None}
    if end.error is not None:
        changed["error"] = end.error
    if end.due is not None:
        changed["due"] = end.due
    return _transition(end.event).values(changed)
