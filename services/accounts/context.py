"""What a task's function gets."""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from services.core.tasks import Task
from services.ports import Deps

PROGRESS_INTERVAL_SECONDS = 1  # between two that are saved


class TaskContext:
    """The ports, the row of the task as it was claimed, and how to report."""

    def __init__(self, deps: Deps, task: Task, save_progress: Callable[[int], Awaitable[None]]) -> None:
        self.deps, self.task = deps, task
        self._save_progress = save_progress
        self._progress_saved_at = -float(PROGRESS_INTERVAL_SECONDS)
        self._calls, self._call_started_at = 0, 0.0  # within `outside`
        self._outside_seconds = 0.0

    @property
    def outside_ms(self) -> int:
        """The time within `outside`."""
        return round(self._outside_seconds * 1000)

    async def progress(self, percent: int) -> None:
        """Report how much is done, as often as is convenient: at most one report a second is saved."""
        if time.monotonic() - self._progress_saved_at >= PROGRESS_INTERVAL_SECONDS:
            self._progress_saved_at = time.monotonic()
            await self._save_progress(min(max(percent, 0), 100))

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Count the time of the block as time within a call to an exchange. Calls at the same time count once."""
        if not self._calls:
            self._call_started_at = time.monotonic()
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._outside_seconds += time.monotonic() - self._call_started_at
