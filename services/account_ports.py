"""The store of people and tasks. What belongs together is saved in one transaction, all or nothing.

Times are milliseconds since the epoch; hashes are hex SHA-256.
"""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.core.accounts.audit import AuditEntry, AuditEvent
from services.core.errors import Unavailable


class Persons(Protocol):
    """People and invitations."""


class SignIns(Protocol):
    """Families of refresh tokens."""


class ApiTokens(Protocol):
    """Tokens of programs."""


class AccountKeys(Protocol):
    """Key pairs that sign access tokens, and wrapped data keys."""


class AuditLog(Protocol):
    """The chained log of what people did."""

    async def append(self, event: AuditEvent, now: int) -> AuditEntry:
        """Append an event to the chain. Texts of the event are cut and lose characters that cannot be printed.

        Append last in a transaction: all other transactions that append wait until this one ends.
        """

    async def last(self) -> AuditEntry | None:
        """Return the newest entry."""

    async def read(self, person: str | None, before: int, limit: int) -> list[AuditEntry]:
        """Return entries with a `seq` below `before`, newest first: those that name a person, or all."""

    async def read_after(self, seq: int, limit: int) -> list[AuditEntry]:
        """Return entries with a higher `seq`, oldest first."""

    async def trim(self, before: int, now: int) -> int:
        """Delete the oldest entries up to the first that is not older than `before`. Return how many.

        An entry is appended that says so: with it the rest can still be checked.
        """


class Tasks(Protocol):
    """The table of tasks."""


class AccountTransaction(Protocol):
    """One transaction. It is committed when its block ends normally, otherwise rolled back.

    Of two transactions that change the same row, the second one waits for the first and then sees what it has written.
    """

    @property
    def persons(self) -> Persons: ...
    @property
    def sign_ins(self) -> SignIns: ...
    @property
    def api_tokens(self) -> ApiTokens: ...
    @property
    def keys(self) -> AccountKeys: ...
    @property
    def audit(self) -> AuditLog: ...
    @property
    def tasks(self) -> Tasks: ...


class AccountStore(Protocol):
    """The store of people and tasks."""

    def transaction(self) -> AbstractAsyncContextManager[AccountTransaction]:
        """Begin a transaction. Raises Unavailable when the database does not respond."""

    async def close(self) -> None:
        """End what is open."""


class NoAccountStore:
    """The store of a process without a database."""

    def transaction(self) -> AbstractAsyncContextManager[AccountTransaction]:
        """Raise Unavailable."""
        raise Unavailable("this process has no database, so it knows no accounts")

    async def close(self) -> None:
        """Do nothing."""
