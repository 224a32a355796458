"""Tasks as clients see them."""

from typing import Any

import msgspec
from pydantic import BaseModel, Field

from services.api.schemas import example
from services.core.tasks import Task, TaskQueue, TaskState

EXAMPLE_TASK = {
    "id": "019ad9a1-7c55-7d3e-8f10-2b64d1c0a9e7",
    "name": "refresh_instruments",
    "queue": "normal",
    "person": None,
    "state": "succeeded",
    "attempt": 1,
    "due": 1764576000000,
    "created_at": 1764576000000,
    "started_at": 1764576000012,
    "finished_at": 1764576002345,
    "cancel_requested": False,
    "progress": None,
    "error": None,
    "result": {"instruments": 3120},
    "outside_ms": 2200,
    "revision": 2,
}


class TaskView(BaseModel):
    """Work that Kurs does in the background. Times are ms since the epoch."""

    model_config = example(**EXAMPLE_TASK)

    id: str
    name: str
    queue: TaskQueue
    person: str | None = Field(description="Whose it is; null: Kurs's own")
    state: TaskState
    attempt: int = Field(description="How often it was begun")
    due: int = Field(description="When it is to begin, or to begin again")
    created_at: int
    started_at: int | None = Field(description="Of the last attempt")
    finished_at: int | None
    cancel_requested: bool
    progress: int | None = Field(description="Per cent, of tasks that report it")
    error: str | None = Field(description="Of the last attempt that failed")
    result: Any = Field(description="What the task has left; its form depends on `name`")
    outside_ms: int = Field(description="Time within calls to an exchange")
    revision: int = Field(description="Counts changes")


def task_fields(task: Task) -> dict[str, object]:
    """Return what `TaskView` describes."""
    shown = {name: getattr(task, name) for name in TaskView.model_fields}
    return {**shown, "result": msgspec.Raw(task.result.encode()) if task.result else None}
