"""Tasks by name. A task is one function in a file of `tasks/`:

    class Arguments(Struct):
        symbol: str

    @task("greet", time_limit=10)
    async def greet(context: TaskContext, arguments: Arguments) -> None: ...

    @every(60, "poll")
    async def poll(context: TaskContext) -> None: ...

The folder is searched at the start. A task may run more than once, because its worker may end before the result is
saved: doing it again has to be harmless.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar, get_type_hints

from msgspec import Struct

from services.accounts.context import TaskContext
from services.core.tasks import TaskQueue

TIME_LIMIT_SECONDS, MAX_ATTEMPTS = 60, 5
TaskFunction = Callable[..., Awaitable[Any]]
FunctionT = TypeVar("FunctionT", bound=TaskFunction)


class TaskSpec(NamedTuple):
    """A task's function, with how it is run. `arguments`: the struct that it expects."""

    name: str
    function: TaskFunction
    queue: TaskQueue = TaskQueue.NORMAL
    time_limit: float = TIME_LIMIT_SECONDS  # seconds, of each attempt
    max_attempts: int = MAX_ATTEMPTS
    every_seconds: int | None = None
    arguments: type[Struct] | None = None


_REGISTERED: dict[str, TaskSpec] = {}


def task(
    name: str,
    *,
    queue: TaskQueue = TaskQueue.NORMAL,
    time_limit: float = TIME_LIMIT_SECONDS,
    max_attempts: int = MAX_ATTEMPTS,
) -> Callable[[FunctionT], FunctionT]:
    """Register a coroutine function as a task. `time_limit` is in seconds."""
    return _register(TaskSpec(name, _no_function, queue, time_limit, max_attempts))


def every(
    seconds: int,
    name: str,
    *,
    queue: TaskQueue = TaskQueue.NORMAL,
    time_limit: float = TIME_LIMIT_SECONDS,
    max_attempts: int = MAX_ATTEMPTS,
) -> Callable[[FunctionT], FunctionT]:
    """Register a coroutine function as a task that runs in each interval, by one of all processes.

    It begins when the last one has ended. Intervals that no process has seen are left out.
    """
    return _register(TaskSpec(name, _no_function, queue, time_limit, max_attempts, seconds))


def find_tasks() -> Mapping[str, TaskSpec]:
    """Return the tasks of the folder `tasks/` by name."""
    package = importlib.import_module("services.accounts.tasks")
    for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(each.name)
    return dict(_REGISTERED)


def _register(spec: TaskSpec) -> Callable[[FunctionT], FunctionT]:
    def decorate(function: FunctionT) -> FunctionT:
        if spec.name in _REGISTERED:
            raise ValueError(f"two tasks are called {spec.name}")
        _REGISTERED[spec.name] = spec._replace(function=function, arguments=_arguments(function))
        return function

    return decorate


def _arguments(function: TaskFunction) -> type[Struct] | None:
    """Return the type of a function's second parameter."""
    names = [*inspect.signature(function).parameters]
    return get_type_hints(function)[names[1]] if len(names) > 1 else None


async def _no_function(_context: TaskContext) -> None:
    """For a spec whose function follows."""
