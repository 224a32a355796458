"""Tokens of programs."""

from sqlalchemy.ext.asyncio import AsyncConnection


class SqlApiTokens:
    """Tokens of programs, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
