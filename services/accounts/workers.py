"""The workers of this process: they claim tasks, run them side by side, and show that they live."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress

from services.accounts import metrics
from services.accounts.attempts import Attempt, StopReason
from services.accounts.registry import TaskSpec
from services.core.backoff import delays
from services.core.errors import Unavailable
from services.core.model import HighPriorityTask, NormalPriorityTask
from services.core.tasks import AttemptEnd, RunningTask, Task, TaskQueue, TaskTiming
from services.log_throttle import ThrottledLog
from services.ports import Deps
from services.task_publisher import MESSAGES, bus_queue

MAX_RUNNING = 8  # tasks of each queue at once
log = logging.getLogger(__name__)


class Workers:
    """All workers of one process. `name` is unique among all processes, also after a restart."""

    def __init__(self, deps: Deps, specs: Mapping[str, TaskSpec], timing: TaskTiming) -> None:
        self._deps, self._specs, self._timing = deps, specs, timing
        self.name = f"{os.getpid()}@{socket.gethostname()[:40]} {secrets.token_hex(4)}"
        self._attempts: dict[str, Attempt] = {}  # by the id of the task
        self._working = set[asyncio.Task[None]]()
        self._slots = {queue: asyncio.Semaphore(MAX_RUNNING) for queue in TaskQueue}
        self._throttled_log = ThrottledLog(log)

    async def run(self) -> None:
        """Work until cancelled. Then what runs gets a moment to end, and the rest goes back to its queue."""
        try:
            async with asyncio.TaskGroup() as group:
                for queue in TaskQueue:
                    group.create_task(self._consume(queue), name=f"tasks {queue}")
                group.create_task(self._give_signs_of_life(), name="tasks heartbeat")
        finally:
            await self._shut_down()

    async def _consume(self, queue: TaskQueue) -> None:
        """Claim what the bus brings, while there is room. An id is acked only after its claim."""
        async with self._deps.bus.consume(bus_queue(queue), MESSAGES[queue], size=1) as batches:
            async for batch in batches:
                for message in batch:
                    if isinstance(message, HighPriorityTask | NormalPriorityTask):
                        await self._begin(message.id, queue)

    async def begin(self, task: Task) -> None:
        """Begin to work on a queued task that the bus has not brought, if there is room."""
        if not self._slots[task.queue].locked():
            await self._begin(task.id, task.queue)

    async def _begin(self, task_id: str, queue: TaskQueue) -> None:
        """Begin to work on a task when there is room, and return after its claim."""
        await self._slots[queue].acquire()
        claim_tried = asyncio.Event()
        working = asyncio.create_task(self._work(task_id, claim_tried), name=f"tasks {queue}")
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        working.add_done_callback(lambda _: self._slots[queue].release())
        await claim_tried.wait()

    async def _work(self, task_id: str, claim_tried: asyncio.Event) -> None:
        claimed = await self._claim(task_id)
        claim_tried.set()
        if claimed is None:
            return

        async def save_progress(percent: int) -> None:
            with suppress(Unavailable):
                async with self._deps.accounts.transaction() as tx:
                    await tx.tasks.set_progress(claimed, percent)

        attempt = Attempt(self._deps, self._specs.get(claimed.name), claimed, save_progress)
        if earlier := self._attempts.get(task_id):  # this process was lost, and has claimed the task again
            earlier.stop(StopReason.LOST)
        self._attempts[task_id] = attempt
        try:
            await self._save_end(attempt, await attempt.run())
        finally:
            if self._attempts.get(task_id) is attempt:
                del self._attempts[task_id]

    async def _claim(self, task_id: str) -> Task | None:
        """Claim a task. Return None if it is done, taken, or cannot be claimed now."""
        try:
            async with self._deps.accounts.transaction() as tx:
                return await tx.tasks.claim(task_id, self.name, self._deps.clock.now())
        except Unavailable as error:  # the sweep publishes it again
            self._throttled_log.warning("tasks: the database does not respond, queued tasks wait: %s", error)
            await self._deps.clock.sleep(1)
            return None

    async def _save_end(self, attempt: Attempt, end: AttemptEnd) -> None:
        """Save how an attempt ended, as soon as the database responds and unless another worker has the task."""
        for delay in delays():
            if attempt.stop_reason is StopReason.LOST:
                return
            try:
                async with self._deps.accounts.transaction() as tx:
                    ended = await tx.tasks.end_attempt(attempt.claimed, end, self._deps.clock.now())
            except Unavailable as error:
                self._throttled_log.warning("tasks: the end of a task is not saved yet: %s", error)
                await asyncio.sleep(delay)
            else:
                observe(ended)
                return

    async def _give_signs_of_life(self) -> None:
        """Renew the leases of what runs, and stop what is to be cancelled or has another worker."""
        now = asyncio.get_running_loop().time
        renewed_at = now()
        while True:
            await asyncio.sleep(self._timing.heartbeat)
            attempts, held = dict(self._attempts), dict[str, RunningTask]()
            try:
                if attempts:
                    held = await self._renew(attempts)
                renewed_at = now()
            except (Unavailable, TimeoutError) as error:
                self._throttled_log.warning("tasks: no sign of life is saved: %s", str(error) or "the database is slow")
                if now() - renewed_at < self._timing.lease - self._timing.heartbeat:
                    continue  # after that another worker may take them
            for task_id, attempt in attempts.items():
                task = held.get(task_id)
                if task is None or task.attempt != attempt.claimed.attempt:
                    attempt.stop(StopReason.LOST)
                elif task.cancel_requested:
                    attempt.stop(StopReason.CANCELLED)

    async def _renew(self, task_ids: Collection[str]) -> dict[str, RunningTask]:
        async with asyncio.timeout(self._timing.heartbeat), self._deps.accounts.transaction() as tx:
            return {task.id: task for task in await tx.tasks.renew(self.name, task_ids)}

    async def _shut_down(self) -> None:
        if self._working:
            await asyncio.wait(self._working, timeout=self._timing.shutdown)
        for attempt in list(self._attempts.values()):
            attempt.stop(StopReason.SHUTDOWN)
        if self._working:
            await asyncio.wait(self._working, timeout=self._timing.shutdown)
        for working in self._working:
            working.cancel()


def observe(task: Task | None) -> None:
    """Observe the end of a task, if this was it."""
    if task and task.finished_at is not None:
        seconds = (task.finished_at - task.created_at - task.outside_ms) / 1000
        metrics.TASK_SECONDS.labels(task.name, task.state).observe(max(0, seconds))
