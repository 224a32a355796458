"""`/v1/tasks`: a person's tasks; all tasks for an admin."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field
from pydantic import BaseModel, Field

from services.account_changes import cancel_task, replay_task
from services.account_ports import AccountTransaction
from services.api.accounts.task_json import EXAMPLE_TASK, TaskView, task_fields
from services.api.components import ApiComponents
from services.api.page_cursor import format_cursor, parse_cursor
from services.api.schemas import example
from services.core.accounts.scopes import Scope
from services.core.errors import MissingScope, NotFound
from services.core.tasks import Task, TaskFilter, TaskState
from services.web import Content, Endpoint, RequestContext

DEFAULT_PAGE, MAX_PAGE = 50, 200


def _parse_name(text: str) -> str:
    """Return the name of a task. Raises ValueError for a text that cannot be one."""
    if not text.replace("_", "").isascii() or not text.replace("_", "").isalpha():
        raise ValueError("names of tasks have letters and underscores only")
    return text


class TasksQuery(Struct, kw_only=True, frozen=True):
    """Which tasks, newest first."""

    state: Annotated[TaskState | None, Meta(description="Those in one state", examples=["failed"])] = None
    name: Annotated[
        Annotated[str, Meta(extra={"parse": _parse_name})],
        Meta(description="Those of one name", examples=["refresh_instruments"]),
    ] = ""
    everyone: Annotated[bool, Meta(description="Tasks of all people and Kurs's own, for an admin only")] = field(
        name="all", default=False
    )
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="At most so many")] = DEFAULT_PAGE
    cursor: Annotated[
        Annotated[str, Meta(extra={"parse": parse_cursor})],
        Meta(description="`next` of the page before", examples=["MDE5YWQ5YTE"]),
    ] = ""


class TaskQuery(Struct, kw_only=True, frozen=True):
    """One task."""

    id: Annotated[str, Meta(description="Of `GET /v1/tasks`", examples=["019ad9a1-7c55-7d3e-8f10-2b64d1c0a9e7"])]


class TaskPage(BaseModel):
    """Tasks, newest first."""

    model_config = example(tasks=[EXAMPLE_TASK], next=None)

    tasks: list[TaskView]
    next: str | None = Field(description="The cursor of the next page, null at the end")


TASKS = Endpoint(
    path="/v1/tasks",
    query=TasksQuery,
    response=TaskPage,
    scope=Scope.READ,
    tag="tasks",
    operation_id="tasks",
    summary="Tasks",
    description="Your tasks, newest first. The channel `tasks` of `/v1/stream` brings each change of them.",
)
TASK = Endpoint(
    path="/v1/tasks/{id}",
    query=TaskQuery,
    response=TaskView,
    scope=Scope.READ,
    tag="tasks",
    operation_id="task",
    summary="One task",
    description="404: there is no such task of yours.",
)
REPLAY = Endpoint(
    path="/v1/tasks/{id}/replay",
    query=TaskQuery,
    method="POST",
    response=TaskView,
    scope=Scope.READ,
    tag="tasks",
    operation_id="replay_task",
    summary="Replay a failed task",
    description="Queues it again, with as many attempts as a new one. 404: there is no such task of yours; 409: it has "
    "not failed.",
)
CANCEL = Endpoint(
    path="/v1/tasks/{id}/cancel",
    query=TaskQuery,
    method="POST",
    response=TaskView,
    scope=Scope.READ,
    tag="tasks",
    operation_id="cancel_task",
    summary="Cancel a task",
    description="One that waits ends now, one that runs within seconds. 404: there is no such task of yours; 409: it "
    "has ended.",
)


class TaskHandlers:
    """Tasks."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts = parts.accounts

    @TASKS.handler
    async def tasks(self, query: TasksQuery, context: RequestContext) -> Content:
        """Return a page of tasks. Raises MissingScope, Unavailable."""
        if query.everyone and not _is_admin(context):
            raise MissingScope(Scope.ADMIN, "tasks of others need a token that allows `admin`")
        wanted = TaskFilter(
            person=None if query.everyone else context.person, state=query.state, name=query.name or None
        )
        async with self._accounts.store.transaction() as tx:
            found = await tx.tasks.find(wanted, query.limit + 1, query.cursor or None)
        page = found[: query.limit]
        following = format_cursor(page[-1].id) if len(found) > len(page) else None
        return _content({"tasks": [task_fields(task) for task in page], "next": following})

    @TASK.handler
    async def task(self, query: TaskQuery, context: RequestContext) -> Content:
        """Return a task. Raises NotFound, Unavailable."""
        async with self._accounts.store.transaction() as tx:
            return _content(task_fields(await _find(tx, query.id, context)))

    @REPLAY.handler
    async def replay(self, query: TaskQuery, context: RequestContext) -> Content:
        """Queue a failed task again. Raises Conflict, NotFound, Unavailable."""
        async with self._accounts.store.transaction() as tx:
            task = await _find(tx, query.id, context)
            return _content(task_fields(await replay_task(tx, task, self._accounts.origin(context))))

    @CANCEL.handler
    async def cancel(self, query: TaskQuery, context: RequestContext) -> Content:
        """Cancel a task. Raises Conflict, NotFound, Unavailable."""
        async with self._accounts.store.transaction() as tx:
            task = await _find(tx, query.id, context)
            return _content(task_fields(await cancel_task(tx, task, self._accounts.origin(context))))


async def _find(tx: AccountTransaction, task_id: str, context: RequestContext) -> Task:
    """Return a task of the caller, or any for an admin. Raises NotFound."""
    task = await tx.tasks.get(task_id)
    if task is None or (task.person != context.person and not _is_admin(context)):
        raise NotFound(f"you have no task {task_id[:40]!r}")
    return task


def _is_admin(context: RequestContext) -> bool:
    return Scope.ADMIN in context.known_caller.scopes


def _content(fields: dict[str, object]) -> Content:
    return Content(msgspec.json.encode(fields))
