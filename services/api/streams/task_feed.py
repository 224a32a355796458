"""The channel `tasks`: a person's tasks, first all recent ones, then each change.

It has no journal, because the table has every task's state: after a cut a client gets a new snapshot. What the bus says
of a change is only that there is one. The rows are read for all clients of a person at once.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

from services import bus_input
from services.api.accounts.task_json import task_fields
from services.api.streams.channels import Channel
from services.api.streams.output import MAX_BUFFERED_BYTES, ClientOutput
from services.core.errors import Unavailable
from services.core.model import TaskChange
from services.core.tasks import Task, TaskFilter
from services.log_throttle import ThrottledLog
from services.ports import Deps

MAX_TASKS = 50  # of a person in a snapshot, the newest
PAUSE_SECONDS = 0.05  # between two reads, in which changes come together
CHECK_SECONDS = 1.0  # between two looks at slow clients
RESYNC_SECONDS = 30  # between two reads of all tasks: the bus may have lost a change
log = logging.getLogger(__name__)


class TaskClient:
    """One client of the channel, with the revisions of the tasks that it has been sent; None: no snapshot yet."""

    def __init__(self, output: ClientOutput, channel: Channel) -> None:
        self._output, self._channel = output, channel
        self._sent: dict[str, int] | None = None

    @property
    def needs_snapshot(self) -> bool:
        """Whether the client is new, or has read too slowly, and can be sent something now."""
        return self._sent is None and self._output.writer.buffered <= MAX_BUFFERED_BYTES

    def send(self, tasks: Sequence[Task]) -> None:
        """Send a snapshot, or the tasks that have changed. A slow client gets a snapshot when it has read everything.

        `tasks`: all recent ones, and older ones that have changed.
        """
        if self._output.writer.buffered > MAX_BUFFERED_BYTES:
            self._sent = None
            return
        is_snapshot, sent = self._sent is None, self._sent or {}
        news = [task for task in tasks if sent.get(task.id, -1) < task.revision]
        if news or is_snapshot:
            data = {"tasks": [task_fields(task) for task in news]}
            self._output.send(self._output.encoder.unnumbered(self._channel, data, is_snapshot=is_snapshot))
        self._sent = {task.id: task.revision for task in tasks}


class TaskFeed:
    """The clients of the channel on this replica, by person."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._clients: dict[str, dict[ClientOutput, TaskClient]] = {}
        self._changed: dict[str, set[str]] = defaultdict(set)  # ids of tasks, by person
        self._wake, self._throttled_log = asyncio.Event(), ThrottledLog(log)

    def add(self, person: str, output: ClientOutput, channel: Channel) -> None:
        """Send a person's tasks to a client from now on."""
        self._clients.setdefault(person, {})[output] = TaskClient(output, channel)
        self._wake.set()

    def remove(self, person: str, output: ClientOutput) -> None:
        """Send nothing more to a client."""
        clients = self._clients.get(person, {})
        clients.pop(output, None)
        if not clients:
            self._clients.pop(person, None)
            self._changed.pop(person, None)

    async def run(self) -> None:
        """Run as a job of the service."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive_changes())
            group.create_task(self._send_changes())

    async def _receive_changes(self) -> None:
        async with bus_input.subscribe(self._deps, TaskChange) as changes:
            async for change in changes:
                if isinstance(change, TaskChange) and change.person in self._clients:
                    self._changed[change.person].add(change.id)
                    self._wake.set()

    async def _send_changes(self) -> None:
        now = asyncio.get_running_loop().time
        resynced_at = now()
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            everyone = now() - resynced_at >= RESYNC_SECONDS
            resynced_at = now() if everyone else resynced_at
            await self._update(self._clients if everyone else self._due())
            await asyncio.sleep(PAUSE_SECONDS)

    def _due(self) -> list[str]:
        new = (person for person, group in self._clients.items() if any(each.needs_snapshot for each in group.values()))
        return list({*self._changed, *new})

    async def _update(self, people: Iterable[str]) -> None:
        for person in list(people):
            changed = self._changed.pop(person, set())
            try:
                tasks = await self._read(person, changed)
            except Unavailable as error:
                self._throttled_log.warning("streams: changes of tasks wait: %s", error)
                if person in self._clients:
                    self._changed[person] |= changed
                return
            for client in list(self._clients.get(person, {}).values()):
                client.send(tasks)

    async def _read(self, person: str, changed: set[str]) -> list[Task]:
        """Return the newest tasks of a person, oldest first, and those of the changed ones that are older."""
        async with self._deps.accounts.transaction() as tx:
            tasks = await tx.tasks.find(TaskFilter(person=person), MAX_TASKS)
            others = [await tx.tasks.get(each) for each in changed - {task.id for task in tasks}]
        return sorted([*tasks, *(task for task in others if task)], key=lambda task: task.id)
