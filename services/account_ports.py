"""The store of people and tasks. What belongs together is saved in one transaction, all or nothing.

Times are milliseconds since the epoch; hashes are hex SHA-256.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.core.accounts.audit import AuditEntry, AuditEvent
from services.core.accounts.model import (
    ApiToken,
    DataKey,
    Invitation,
    MasterKey,
    Person,
    PersonState,
    RevokeReason,
    Rotation,
    SignIn,
    SigningKey,
)
from services.core.errors import Unavailable
from services.core.tasks import AttemptEnd, NewTask, RunningTask, Task, TaskFilter, TaskQueue, WaitingTasks


class Persons(Protocol):
    """People and invitations."""

    async def add(self, person: Person) -> bool:
        """Add a person. Return False, and change nothing, if the name is taken."""

    async def get(self, person: str) -> Person | None:
        """Return the person of an id."""

    async def named(self, name: str) -> Person | None:
        """Return the person of a name."""

    async def lock(self, person: str) -> Person | None:
        """Return the person of an id. Other transactions that lock or change the person wait for this one's end."""

    async def page(self, after: str, limit: int) -> list[Person]:
        """Return people with a higher id, in the order in which they registered."""

    async def has_admin(self) -> bool:
        """Return whether anyone is an admin, disabled or not."""

    async def set_password(self, person: str, password_hash: str, changed_at: int) -> None:
        """Replace a password's hash."""

    async def set_state(self, person: str, state: PersonState) -> bool:
        """Change a person's state. Return whether it was another one."""

    async def delete(self, person: str) -> bool:
        """Delete a person with everything that refers to them, but for the audit log. Return whether there was one."""

    async def add_invitation(self, invitation: Invitation) -> None:
        """Add an invitation."""

    async def renew_invitation(self, invitation: Invitation, made_before: int) -> bool:
        """Add an invitation, or replace the one of the same id if that was made before `made_before`.

        Of several callers at once, one gets True.
        """

    async def invitation(self, code_hash: str, now: int) -> Invitation | None:
        """Return the invitation of a code that may still be used."""

    async def use_invitation(self, code_hash: str, person: str, now: int) -> bool:
        """Mark an invitation as used. Return False if it may not be used (any more)."""

    async def invitations(self, now: int, limit: int) -> list[Invitation]:
        """Return invitations that may still be used, newest first."""

    async def delete_invitations(self, expired_before: int) -> int:
        """Delete invitations. Return how many."""


class SignIns(Protocol):
    """Families of refresh tokens. A sign-in is active until it expires or is revoked."""

    async def add(self, sign_in: SignIn, most: int) -> None:
        """Add a sign-in. Of more than `most` active ones of its person, the longest unused are revoked.

        Lock the person before.
        """

    async def get(self, sign_in: str) -> SignIn | None:
        """Return the sign-in of an id, active or not."""

    async def active(self, ids: Collection[str], now: int) -> set[str]:
        """Return those ids that are of active sign-ins whose person is not disabled."""

    async def of_family(self, family_hash: str) -> SignIn | None:
        """Return the sign-in of a family, active or not."""

    async def rotate(self, rotation: Rotation) -> SignIn | None:
        """Replace the refresh token of an active sign-in. None: the presented one is not the valid one of any.

        Of several callers at once, one gets the sign-in.
        """

    async def of_person(self, person: str, now: int) -> list[SignIn]:
        """Return a person's active sign-ins, newest first."""

    async def revoke(self, sign_in: str, reason: RevokeReason, now: int) -> bool:
        """Revoke an active sign-in. Return whether it was active."""

    async def revoke_all(self, person: str, reason: RevokeReason, now: int, but: str = "") -> int:
        """Revoke a person's active sign-ins, but for the one of the id `but`. Return how many."""

    async def delete_ended(self, before: int) -> int:
        """Delete sign-ins that expired or were revoked before `before`. Return how many."""


class ApiTokens(Protocol):
    """Tokens of programs."""

    async def add(self, token: ApiToken, most: int) -> bool:
        """Add a token, unless its person has `most` unexpired ones. Return whether it was added.

        Lock the person before.
        """

    async def find(self, token_hash: str, now: int) -> ApiToken | None:
        """Return the unexpired token of a hash."""

    async def active(self, ids: Collection[str], now: int) -> set[str]:
        """Return those ids that are of unexpired tokens whose person is not disabled."""

    async def of_person(self, person: str, now: int) -> list[ApiToken]:
        """Return a person's unexpired tokens, newest first."""

    async def mark_used(self, token: str, now: int) -> None:
        """Save when a token was last used."""

    async def delete(self, token: str, person: str) -> bool:
        """Delete a person's token. Return whether there was one."""

    async def delete_expired(self, before: int) -> int:
        """Delete tokens that expired before `before`. Return how many."""


class AccountKeys(Protocol):
    """Key pairs that sign access tokens; data keys, and the master keys that they are sealed with."""

    async def signing_keys(self) -> list[SigningKey]:
        """Return all key pairs, the oldest first."""

    async def add_signing_key(self, key: SigningKey) -> bool:
        """Add a key pair. Return False if its number is taken."""

    async def retire_signing_keys(self, below: int, retired_at: int, expires_at: int) -> None:
        """Retire the key pairs of lower numbers. Those that are retired already keep their time, but expire as well."""

    async def delete_signing_keys(self, expired_before: int) -> None:
        """Delete key pairs that have expired."""

    async def master_keys(self) -> list[MasterKey]:
        """Return all master keys, the oldest first."""

    async def add_master_key(self, key: MasterKey) -> None:
        """Add a master key, unless its id is there."""

    async def delete_unused_master_keys(self, but: str) -> None:
        """Delete master keys that no data key is sealed with, except one. Raises Conflict if one is used meanwhile."""

    async def data_key(self, person: str) -> DataKey | None:
        """Return a person's data key."""

    async def add_data_key(self, key: DataKey) -> bool:
        """Add a data key. Return False if the person has one. Raises Conflict if person or master key are gone."""

    async def data_keys_not_sealed_with(self, kek_id: str, after: str, limit: int) -> list[DataKey]:
        """Return data keys that other master keys seal, of persons with higher ids, in their order."""

    async def reseal_data_key(self, former: DataKey, key: DataKey) -> bool:
        """Replace a data key's sealed form. Return False if it is no longer the former one."""

    async def count_data_keys(self) -> Mapping[str, int]:
        """Return the number of data keys by the master keys that seal them."""

    async def delete_data_keys(self, kek_id: str) -> int:
        """Delete the data keys that a master key seals. Return how many."""


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
    """The table of tasks. A change returns the new row of the task, or None where it came too late.

    After the commit the store publishes ids of queued tasks to the bus. What is not published then, a sweep publishes.
    """

    async def add(self, task: NewTask, now: int) -> Task:
        """Add a task."""

    async def add_periodic(self, task: NewTask, slot: str, now: int) -> Task | None:
        """Return the task of a slot, which is added if no process has done that; None: an earlier one has not ended."""

    async def get(self, task_id: str) -> Task | None:
        """Return a task."""

    async def find(self, wanted: TaskFilter, limit: int, before: str | None = None) -> list[Task]:
        """Return tasks, newest first: those with an id below `before`."""

    async def claim(self, task_id: str, worker: str, now: int) -> Task | None:
        """Claim a queued task for a worker. Of several workers one gets it."""

    async def renew(self, worker: str, task_ids: Collection[str]) -> list[RunningTask]:
        """Give a sign of life for tasks of a worker. Return those that it still holds."""

    async def set_progress(self, claimed: Task, percent: int) -> Task | None:
        """Save the progress of a claimed task."""

    async def end_attempt(self, claimed: Task, end: AttemptEnd, now: int) -> Task | None:
        """Save how the attempt of a claim ended."""

    async def end_lost(self, lost: RunningTask, end: AttemptEnd, now: int) -> Task | None:
        """Save that a worker is lost, if it has given no sign of life since."""

    async def cancel(self, task_id: str, now: int) -> Task | None:
        """Cancel a task; of a running one only request it from its worker."""

    async def replay(self, task_id: str, now: int) -> Task | None:
        """Queue a failed task, with as many attempts as a new one."""

    async def queue_due(self, now: int, limit: int) -> list[Task]:
        """Queue scheduled tasks that are due."""

    async def running(self) -> list[RunningTask]:
        """Return all tasks that run."""

    async def waiting(self, unclaimed_since: int) -> list[WaitingTasks]:
        """Return what waits in each queue. `unclaimed`: given to the bus at `unclaimed_since` or before."""

    async def requeue_unclaimed(self, queue: TaskQueue, unclaimed_since: int, now: int, limit: int) -> list[Task]:
        """Note that unclaimed tasks, the oldest first, are given to the bus again. Return them."""

    async def delete_finished(self, before: int, limit: int) -> int:
        """Delete tasks that ended before a time. Return how many."""


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
