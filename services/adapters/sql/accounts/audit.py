"""The chained log of what people did."""

from sqlalchemy.ext.asyncio import AsyncConnection


class SqlAuditLog:
    """The chained log of what people did, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
