"""A parsed command."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from services.ports import Deps


class Command(NamedTuple):
    """A command. `run` returns the exit code and raises KursError; `publishes`: it needs a writer."""

    run: Callable[[Deps], Coroutine[Any, Any, int]]
    publishes: bool = False
