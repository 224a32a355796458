"""One command, understood and ready to be run."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from services.ports import Deps


class Command(NamedTuple):
    """`run` answers the exit code and raises KursError; `publishes`: what it says is for a writer."""

    run: Callable[[Deps], Coroutine[Any, Any, int]]
    publishes: bool = False
