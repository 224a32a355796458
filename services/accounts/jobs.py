"""The jobs of the accounts service."""

import asyncio

from services.accounts.registry import find_tasks
from services.accounts.sweep import Sweep
from services.accounts.workers import Workers
from services.core.tasks import TaskTiming
from services.ports import Deps


async def run_tasks(deps: Deps) -> None:
    """Run tasks, and queue those whose time has come."""
    specs, timing = find_tasks(), TaskTiming()
    workers = Workers(deps, specs, timing)
    async with asyncio.TaskGroup() as group:
        group.create_task(Sweep(deps, specs, timing, workers.begin).run(), name="tasks sweep")
        group.create_task(workers.run(), name="tasks workers")
