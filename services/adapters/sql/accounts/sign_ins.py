"""Families of refresh tokens."""

from sqlalchemy.ext.asyncio import AsyncConnection


class SqlSignIns:
    """Families of refresh tokens, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
