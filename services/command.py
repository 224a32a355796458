"""Commands that `services/command_line.py` runs to their end on the stores, instead of a service."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from services.ports import Deps


class Command(NamedTuple):
    """A parsed command. `run` returns the exit code and raises KursError; `publishes`: it needs a writer."""

    run: Callable[[Deps], Coroutine[Any, Any, int]]
    publishes: bool = False
