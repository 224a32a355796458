"""What is deleted because it is old."""

from msgspec import Struct

from services.account_changes import delete_old_credentials
from services.accounts.context import TaskContext
from services.accounts.registry import every
from services.core.timeframes import DAY_MS

DAY_SECONDS = 86_400
BATCH_TASKS = 1_000  # in one transaction


class Deleted(Struct):
    """How many rows were deleted."""

    tasks: int
    credentials: int


@every(DAY_SECONDS, "retention", time_limit=600)
async def retention(context: TaskContext) -> Deleted:
    """Delete finished tasks older than `KURS_TASK_DAYS`, and invitations, sign-ins and tokens that ended long ago.

    The audit log has a task of its own.
    """
    deps = context.deps
    now, deleted = deps.clock.now(), 0
    before, batch = now - deps.settings.task_days * DAY_MS, BATCH_TASKS
    while batch == BATCH_TASKS:
        async with deps.accounts.transaction() as tx:
            batch = await tx.tasks.delete_finished(before, BATCH_TASKS)
        deleted += batch
    async with deps.accounts.transaction() as tx:
        return Deleted(deleted, await delete_old_credentials(tx, now))
