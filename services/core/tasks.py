"""Tasks: work that is stored, and done by one of many workers.

    scheduled ─due─► queued ─claimed─► running ─► succeeded, failed, cancelled, or scheduled for another attempt

What is decided about a task is decided here; adapters and services apply it.
"""

from collections.abc import Iterable, Mapping
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from msgspec import Struct

FIRST_RETRY_MS, MAX_RETRY_MS = 2_000, 600_000
RETRY_FACTOR = 4


class TaskTiming(NamedTuple):
    """How often workers and sweeps do what they repeat, in seconds unless the name says otherwise.

    A worker is lost after so many sweeps without a new sign of life: `lease`.
    """

    heartbeat: float = 3  # between two signs of life
    sweep: float = 1
    lease_sweeps: int = 15
    unclaimed_ms: int = 10_000  # after which an id that no worker has claimed may be lost
    shutdown: float = 5  # in which running tasks may end before they go back to their queue

    @property
    def lease(self) -> float:
        """After which a worker is lost at the earliest."""
        return self.sweep * self.lease_sweeps


class TaskState(StrEnum):
    """Where a task is."""

    SCHEDULED = "scheduled"  # not yet due
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED_STATES = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})


class TaskEvent(Enum):
    """What changes a task's state."""

    DUE = auto()
    CLAIMED = auto()  # by a worker
    SUCCEEDED = auto()
    RETRIED = auto()  # its attempt failed, and it has another one
    FAILED = auto()  # its last attempt failed
    RELEASED = auto()  # its worker stops
    LOST = auto()  # its worker gives no sign of life
    CANCELLED = auto()
    REPLAYED = auto()


class Transition(NamedTuple):
    """What an event does: a task in one of the states `before` gets the state `after`; any other stays as it is."""

    before: frozenset[TaskState]
    after: TaskState


def _from(*before: TaskState, to: TaskState) -> Transition:
    return Transition(frozenset(before), to)


TRANSITIONS: Mapping[TaskEvent, Transition] = {
    TaskEvent.DUE: _from(TaskState.SCHEDULED, to=TaskState.QUEUED),
    TaskEvent.CLAIMED: _from(TaskState.QUEUED, to=TaskState.RUNNING),
    TaskEvent.SUCCEEDED: _from(TaskState.RUNNING, to=TaskState.SUCCEEDED),
    TaskEvent.RETRIED: _from(TaskState.RUNNING, to=TaskState.SCHEDULED),
    TaskEvent.FAILED: _from(TaskState.RUNNING, to=TaskState.FAILED),
    TaskEvent.RELEASED: _from(TaskState.RUNNING, to=TaskState.QUEUED),
    TaskEvent.LOST: _from(TaskState.RUNNING, to=TaskState.QUEUED),
    TaskEvent.CANCELLED: _from(TaskState.SCHEDULED, TaskState.QUEUED, TaskState.RUNNING, to=TaskState.CANCELLED),
    TaskEvent.REPLAYED: _from(TaskState.FAILED, to=TaskState.QUEUED),
}


def next_state(state: TaskState, event: TaskEvent) -> TaskState:
    """Return the state after an event. An event that means nothing in a state leaves it as it is."""
    transition = TRANSITIONS[event]
    return transition.after if state in transition.before else state


class TaskQueue(StrEnum):
    """Which workers take a task. Those of one queue never wait for those of the other."""

    HIGH = "high"
    NORMAL = "normal"


class NewTask(Struct, frozen=True, kw_only=True):
    """A task to be added. `arguments` is the struct that its function expects; `due` is None for at once.

    Arguments are stored and can be read by operators: no secret belongs in them.
    """

    name: str
    queue: TaskQueue = TaskQueue.NORMAL
    person: str | None = None
    arguments: Struct | None = None
    due: int | None = None


class Task(Struct, frozen=True, kw_only=True):
    """A row of `tasks`. `person`: whose it is; None: Kurs's own. `arguments` and `result` are JSON.

    `attempt` counts the claims since the task was added or replayed, without those that a stopping worker has given
    back. `worker` and `attempt` name the claim that holds a running task; `heartbeat` counts the signs of life of that
    worker. `slot` makes periodic tasks unique: `name@time`. Times are milliseconds since the epoch.
    """

    id: str  # UUID version 7
    name: str
    queue: TaskQueue = TaskQueue.NORMAL
    person: str | None = None
    arguments: str = "{}"
    state: TaskState = TaskState.QUEUED
    attempt: int = 0
    due: int
    created_at: int
    queued_at: int | None = None  # when its id was last given to the bus
    started_at: int | None = None
    finished_at: int | None = None
    worker: str | None = None
    heartbeat: int = 0
    cancel_requested: bool = False
    progress: int | None = None  # per cent
    error: str | None = None  # of the last attempt that failed
    result: str | None = None
    outside_ms: int = 0  # within calls to an exchange, in all attempts
    slot: str | None = None
    revision: int = 0  # counts changes, without signs of life


class TaskUpdate(NamedTuple):
    """A task after a change. `is_transition`: its state has changed, or the task is new."""

    task: Task
    is_transition: bool


class TaskFilter(Struct, frozen=True, kw_only=True):
    """Which tasks are listed: those of one person (None: of all), in one state, of one name."""

    person: str | None = None
    state: TaskState | None = None
    name: str | None = None


class AttemptEnd(Struct, frozen=True, kw_only=True):
    """How an attempt ended, with what it leaves in the row. `due`: of the next attempt."""

    event: TaskEvent
    due: int | None = None
    error: str | None = None
    result: str | None = None
    outside_ms: int = 0


class RunningTask(Struct, frozen=True, kw_only=True):
    """What shows whether the worker of a running task lives."""

    id: str
    name: str
    attempt: int
    worker: str
    heartbeat: int
    cancel_requested: bool


class WaitingTasks(Struct, frozen=True, kw_only=True):
    """The queued tasks of one queue. `unclaimed` were given to the bus a while ago, and no worker has claimed them."""

    queue: TaskQueue
    count: int
    unclaimed: int
    oldest_due: int


def event_without_success(attempt: int, max_attempts: int, *, cancel_requested: bool) -> TaskEvent:
    """Return what follows from an attempt that failed."""
    if cancel_requested:
        return TaskEvent.CANCELLED
    return TaskEvent.RETRIED if attempt < max_attempts else TaskEvent.FAILED


def retry_delay_ms(attempt: int, jitter: float) -> int:
    """Return the pause after a failed attempt: 2 s, 8 s, 32 s …, at most ten minutes. `jitter` from 0 to 1 takes up to
    half of it away, so that tasks that failed together do not return together.
    """
    delay: int = min(FIRST_RETRY_MS * RETRY_FACTOR ** min(attempt - 1, 20), MAX_RETRY_MS)
    return round(delay * (1 - jitter / 2))


def slot_of(name: str, every_ms: int, now: int) -> str:
    """Return the slot of a periodic task at a time. All processes agree on it."""
    return f"{name}@{now // every_ms * every_ms}"


class LeaseWatch:
    """Finds running tasks whose worker is lost.

    It counts looks and compares no clocks: those of two machines differ, and a look at a database that was down, or by
    a process that was stopped itself, proves nothing against a worker.
    """

    def __init__(self, max_looks: int) -> None:
        self._max_looks = max_looks
        self._looks: dict[RunningTask, int] = {}

    def look(self, running: Iterable[RunningTask]) -> list[RunningTask]:
        """Return those that have not changed for so many looks. Called by each sweep with all that run."""
        self._looks = {task: self._looks.get(task, -1) + 1 for task in running}
        return [task for task, looks in self._looks.items() if looks >= self._max_looks]
