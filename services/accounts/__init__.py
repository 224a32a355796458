"""The accounts service: it runs tasks, and alone can open what people have entrusted to Kurs."""

from collections.abc import Callable, Coroutine
from typing import Any

from services.ports import Deps

JOBS: list[Callable[[Deps], Coroutine[Any, Any, None]]] = []
