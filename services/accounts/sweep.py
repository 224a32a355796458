"""What is done about tasks each second, in every process that runs tasks. No process leads the others."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from services.accounts import metrics
from services.accounts.registry import MAX_ATTEMPTS, TaskSpec
from services.accounts.workers import MAX_RUNNING, observe
from services.cancellation import is_cancelled
from services.core.errors import Unavailable
from services.core.tasks import (
    AttemptEnd,
    LeaseWatch,
    NewTask,
    RunningTask,
    Task,
    TaskEvent,
    TaskQueue,
    TaskTiming,
    WaitingTasks,
    event_without_success,
    slot_of,
)
from services.log_throttle import ThrottledLog
from services.ports import Deps
from services.task_publisher import bus_queue

SWEEP_TIMEOUT_SECONDS = 20
MAX_DUE = 500  # tasks that are queued in one transaction
log = logging.getLogger(__name__)


class Sweep:
    """Queues what is due, what has lost its worker and what the bus has lost, and adds periodic tasks.

    `begin` gives a task to a worker of this process, if one is free: so tasks run while the bus is down.
    """

    def __init__(
        self, deps: Deps, specs: Mapping[str, TaskSpec], timing: TaskTiming, begin: Callable[[Task], Awaitable[None]]
    ) -> None:
        self._deps, self._specs, self._timing, self._begin = deps, specs, timing, begin
        self._watch = LeaseWatch(timing.lease_sweeps)
        self._filled: dict[str, str] = {}  # the last slot of each periodic task that some process has filled

    async def run(self) -> None:
        """Sweep until cancelled."""
        throttled_log = ThrottledLog(log)
        while not is_cancelled():
            try:
                async with asyncio.timeout(SWEEP_TIMEOUT_SECONDS):
                    await self.sweep()
            except (Unavailable, TimeoutError) as error:
                throttled_log.warning("tasks: the sweep failed, the next one follows: %s", str(error) or "it is slow")
            await asyncio.sleep(self._timing.sweep)

    async def sweep(self) -> None:
        """Sweep once. Raises Unavailable."""
        await self._add_periodic()
        await self._queue_due()
        await self._end_lost()
        await self._publish_unclaimed()

    async def _add_periodic(self) -> None:
        now = self._deps.clock.now()
        for spec in self._specs.values():
            if spec.every_seconds is None:
                continue
            slot = slot_of(spec.name, spec.every_seconds * 1000, now)
            if self._filled.get(spec.name) == slot:
                continue
            async with self._deps.accounts.transaction() as tx:
                if await tx.tasks.add_periodic(NewTask(name=spec.name, queue=spec.queue), slot, now):
                    self._filled[spec.name] = slot

    async def _queue_due(self) -> None:
        found = MAX_DUE
        while found == MAX_DUE:
            async with self._deps.accounts.transaction() as tx:
                found = len(await tx.tasks.queue_due(self._deps.clock.now(), MAX_DUE))

    async def _end_lost(self) -> None:
        async with self._deps.accounts.transaction() as tx:
            running = await tx.tasks.running()
        for lost in self._watch.look(running):
            async with self._deps.accounts.transaction() as tx:
                ended = await tx.tasks.end_lost(lost, self._end_of(lost), self._deps.clock.now())
            observe(ended)

    def _end_of(self, lost: RunningTask) -> AttemptEnd:
        """Return the end of an attempt whose worker is lost. The lease was pause enough before the next one."""
        spec = self._specs.get(lost.name)
        max_attempts = spec.max_attempts if spec else MAX_ATTEMPTS
        event = event_without_success(lost.attempt, max_attempts, cancel_requested=lost.cancel_requested)
        return AttemptEnd(
            event=TaskEvent.LOST if event is TaskEvent.RETRIED else event,
            error="its worker has ended or hangs",
        )

    async def _publish_unclaimed(self) -> None:
        """Publish ids again of which fewer are on the bus than tasks wait. So it never has more than that."""
        now = self._deps.clock.now()
        unclaimed_since = now - self._timing.unclaimed_ms
        async with self._deps.accounts.transaction() as tx:
            waiting = {each.queue: each for each in await tx.tasks.waiting(unclaimed_since)}
        for queue in TaskQueue:
            found = waiting.get(queue)
            metrics.WAITING.labels(queue).set(found.count if found else 0)
            metrics.OLDEST.labels(queue).set(max(0, now - found.oldest_due) / 1000 if found else 0)
            if found and found.unclaimed:
                await self._requeue_unclaimed(found, unclaimed_since)

    async def _requeue_unclaimed(self, waiting: WaitingTasks, unclaimed_since: int) -> None:
        """Publish as many ids again as the bus lacks. While it is down, begin with some of the tasks here."""
        queue, is_down, depth = waiting.queue, False, 0
        try:
            depth = await self._deps.bus.queue_depth(bus_queue(queue))
        except Unavailable:
            is_down = True
        lacking = MAX_RUNNING if is_down else min(waiting.count - depth, MAX_DUE)
        if lacking > 0:
            async with self._deps.accounts.transaction() as tx:
                now = self._deps.clock.now()
                requeued = await tx.tasks.requeue_unclaimed(queue, unclaimed_since, now, lacking)
            for task in requeued if is_down else ():
                await self._begin(task)
