"""`kurs tasks`: what an operator sees and does of tasks. See docs/tasks.md."""

import argparse
from collections.abc import Sequence
from functools import partial

from services.account_changes import Origin, cancel_task, replay_task
from services.command import Command
from services.core import times
from services.core.errors import UnknownName
from services.core.tasks import Task, TaskFilter, TaskState
from services.ports import Deps

DEFAULT_LIMIT = 50
ACTION_HELP = {
    "show": "print all fields of one",
    "replay": "queue a failed one again",
    "cancel": "cancel one; what runs ends within seconds",
}


def command(argv: Sequence[str]) -> Command:
    """Parse the arguments of `kurs tasks`. Wrong ones end the program."""
    parser = argparse.ArgumentParser("kurs tasks", description="Work that Kurs does in the background.")
    actions = parser.add_subparsers(dest="action", metavar="list | show ID | replay ID | cancel ID")
    listing = actions.add_parser("list", help="print one line for each, newest first")
    listing.add_argument("--state", choices=[*map(str, TaskState)], help="those in one state: failed")
    listing.add_argument("--name", help="those of one name")
    listing.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help=f"at most so many; default {DEFAULT_LIMIT}")
    for action, text in ACTION_HELP.items():
        actions.add_parser(action, help=text, description=text).add_argument("id", metavar="ID")
    args = parser.parse_args(argv)
    if args.action in ACTION_HELP:
        return Command(partial({"show": _show, "replay": _replay, "cancel": _cancel}[args.action], args.id))
    state, name = getattr(args, "state", None), getattr(args, "name", None)
    wanted = TaskFilter(state=TaskState(state) if state else None, name=name)
    return Command(partial(_list, wanted, getattr(args, "limit", DEFAULT_LIMIT)))


async def _list(wanted: TaskFilter, limit: int, deps: Deps) -> int:
    async with deps.accounts.transaction() as tx:
        found = await tx.tasks.find(wanted, limit)
    for task in found:
        print(_line(task))  # noqa: T201
    print(f"{len(found)} tasks" if len(found) != 1 else "1 task")  # noqa: T201
    return 0


def _line(task: Task) -> str:
    error = f": {task.error}" if task.error else ""
    return f"{task.id}  {times.format_rfc3339(task.created_at)}  {task.state:9}  {task.name}{error}"


async def _show(task_id: str, deps: Deps) -> int:
    async with deps.accounts.transaction() as tx:
        task = await tx.tasks.get(task_id)
    task = _known(task, task_id)
    for name in task.__struct_fields__:
        value = getattr(task, name)
        is_time = value is not None and (name == "due" or name.endswith("_at"))
        print(f"{name:16} {times.format_rfc3339(value) if is_time else value}")  # noqa: T201
    return 0


async def _replay(task_id: str, deps: Deps) -> int:
    async with deps.accounts.transaction() as tx:
        task = await replay_task(tx, _known(await tx.tasks.get(task_id), task_id), Origin(deps.clock.now()))
    print(f"{task.id} is queued")  # noqa: T201
    return 0


async def _cancel(task_id: str, deps: Deps) -> int:
    async with deps.accounts.transaction() as tx:
        task = await cancel_task(tx, _known(await tx.tasks.get(task_id), task_id), Origin(deps.clock.now()))
    print(f"{task.id} is {'being ' if task.state is TaskState.RUNNING else ''}cancelled")  # noqa: T201
    return 0


def _known(task: Task | None, task_id: str) -> Task:
    if task is None:
        raise UnknownName(f"there is no task {task_id[:40]!r}; kurs tasks list prints the ids")
    return task
