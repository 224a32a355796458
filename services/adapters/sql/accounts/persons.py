"""People and invitations."""

from sqlalchemy.ext.asyncio import AsyncConnection


class SqlPersons:
    """People and invitations, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
