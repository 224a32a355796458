"""Tasks: work that is stored, and done once by one of many workers."""

from enum import StrEnum

from msgspec import Struct


class TaskState(StrEnum):
    """Where a task is."""

    SCHEDULED = "scheduled"  # not yet due
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskQueue(StrEnum):
    """Which workers take a task. Those of one queue never wait for those of the other."""

    HIGH = "high"
    NORMAL = "normal"


class Task(Struct, frozen=True, kw_only=True):
    """A row of `tasks`. `person`: whose it is; None: Kurs's own. `arguments` and `result` are JSON.

    `slot` makes periodic tasks unique: `name@time`. Times are milliseconds since the epoch.
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
    started_at: int | None = None
    finished_at: int | None = None
    lease_until: int | None = None
    cancel_requested: bool = False
    progress: int | None = None  # per cent
    error: str | None = None
    result: str | None = None
    outside_ms: int = 0  # within calls to an exchange
    slot: str | None = None
    revision: int = 0  # counts changes
