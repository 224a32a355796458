"""The table of tasks."""

from sqlalchemy.ext.asyncio import AsyncConnection


class SqlTasks:
    """The table of tasks, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
