"""Commands: what the command line runs to its end on the stores, instead of a service."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

from services.ports import Deps


class Command(NamedTuple):
    """A parsed command. `run` returns the exit code and raises KursError; `publishes`: it needs a writer."""

    run: Callable[[Deps], Coroutine[Any, Any, int]]
    publishes: bool = False


Commands = Mapping[str, Callable[[Sequence[str]], Command]]
"""What parses the arguments of each command, by its name. Wrong arguments end the program."""
