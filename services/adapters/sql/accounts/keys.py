"""Key pairs that sign access tokens, and wrapped data keys."""

from sqlalchemy.ext.asyncio import AsyncConnection


class SqlAccountKeys:
    """Key pairs that sign access tokens, and wrapped data keys, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
