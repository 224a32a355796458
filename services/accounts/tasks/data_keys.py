"""The data keys of people."""

from services.accounts.composition import make_vault
from services.accounts.context import TaskContext
from services.accounts.registry import task
from services.core.errors import BadRequest


@task("create_data_key")
async def create_data_key(context: TaskContext) -> None:
    """Make the data key of the task's person, so that it is there before the first secret. One that is there stays."""
    if context.task.person is None:
        raise BadRequest("create_data_key needs a person")
    async with context.deps.accounts.transaction() as tx:
        await make_vault(context.deps).data_key(tx, context.task.person)
