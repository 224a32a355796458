"""What follows the commit of a change to tasks: lines in the log, ids on the bus, and news for live streams."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from services.core.errors import Unavailable
from services.core.model import HighPriorityTask, Message, NormalPriorityTask, TaskChange
from services.core.tasks import Task, TaskQueue, TaskState, TaskUpdate
from services.log_throttle import ThrottledLog
from services.ports import Bus

PUBLISH_TIMEOUT_SECONDS = 1  # a request waits for it; what is not published by then is left to the sweep
PAUSE_SECONDS = 5  # after a failure, in which nothing is published and no request waits
MESSAGES: Mapping[TaskQueue, type[HighPriorityTask | NormalPriorityTask]] = {
    TaskQueue.HIGH: HighPriorityTask,
    TaskQueue.NORMAL: NormalPriorityTask,
}
log = logging.getLogger(__name__)


def bus_queue(queue: TaskQueue) -> str:
    """Return the name of a queue's work queue on the bus."""
    return f"tasks.{queue}"


class TaskPublisher:
    """Publisher of the tasks that this process changes."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._throttled_log = bus, ThrottledLog(log)
        self._paused_until = 0.0

    async def __call__(self, updates: Sequence[TaskUpdate]) -> None:
        """Log transitions, and publish each task. Raises nothing: the change is committed."""
        messages = list[Message]()
        for task, is_transition in updates:
            if is_transition:
                _log_transition(task)
            if task.state is TaskState.QUEUED:
                messages.append(MESSAGES[task.queue](task.id))
            if task.person is not None:
                messages.append(TaskChange(task.id, task.person, task.revision))
        now = asyncio.get_running_loop().time()
        if not messages or now < self._paused_until:
            return
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                # each alone: a worker that takes several in one delivery would hold all up while it runs the first
                await asyncio.gather(*map(self._bus.publish, messages))
        except (Unavailable, TimeoutError) as error:
            self._paused_until = now + PAUSE_SECONDS
            text = "tasks: ids are not on the bus, the sweep takes care of them: %s"
            self._throttled_log.warning(text, str(error) or "the bus is slow")


def _log_transition(task: Task) -> None:
    failed = task.state is TaskState.FAILED
    text = f"task {task.name}: {task.state}" + (f" after attempt {task.attempt}: {task.error}" if failed else "")
    fields = {"task": task.id, "attempt": task.attempt, "queue": str(task.queue)}
    log.log(logging.WARNING if failed else logging.INFO, text, extra=fields)
