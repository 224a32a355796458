"""Changes to people and tasks by API, command line and tasks: each with its audit event, in one transaction."""

import secrets
from typing import NamedTuple

from msgspec.structs import replace

from services.account_ports import AccountTransaction
from services.core.accounts.audit import AuditEvent, Outcome
from services.core.accounts.ids import RANDOM_BYTES as ID_BYTES
from services.core.accounts.ids import uuid7
from services.core.accounts.model import Invitation, Person, PersonState, RevokeReason
from services.core.accounts.scopes import PersonRole
from services.core.accounts.token_format import RANDOM_BYTES, TokenType, hash_token, new_token
from services.core.errors import Conflict, Forbidden, NotFound
from services.core.tasks import NewTask, Task

OPERATOR = "operator"  # the actor of the command line
INVITATION_SECONDS = 24 * 60 * 60  # by default
FIRST_ADMIN_ID = "first-admin"  # of the invitation that a system without an admin prints at its start
ENDED_RETENTION_MS = 30 * 24 * 60 * 60 * 1000  # of sign-ins, so that a reused refresh token is known as one


class Origin(NamedTuple):
    """The author, time and place of a change. `actor`: a person's id, `operator`, or empty for somebody unknown."""

    at: int  # ms
    actor: str = OPERATOR
    address: str = ""
    agent: str = ""

    def done(self, action: str, subject: str, **detail: str) -> AuditEvent:
        """Return the audit event of an action on a person."""
        return AuditEvent(
            action=action, actor=self.actor, subject=subject, address=self.address, agent=self.agent, detail=detail
        )

    def refused(self, action: str, subject: str, **detail: str) -> AuditEvent:
        """Return the audit event of an action that was not allowed."""
        return replace(self.done(action, subject, **detail), outcome=Outcome.REFUSED)


def new_id(now: int) -> str:
    """Return the id of a row that is made now."""
    return uuid7(now, secrets.token_bytes(ID_BYTES))


def make_token(kind: TokenType, family: str = "") -> str:
    """Return a random token."""
    return new_token(kind, secrets.token_bytes(RANDOM_BYTES), family)


def new_person(name: str, password_hash: str, role: PersonRole, now: int) -> Person:
    """Return a new person."""
    return Person(
        id=new_id(now),
        name=name,
        password_hash=password_hash,
        role=role,
        created_at=now,
        password_changed_at=now,
    )


async def register(
    tx: AccountTransaction, person: Person, origin: Origin, invitation: Invitation | None = None
) -> None:
    """Add a person, and mark their invitation, if there is one, as used. Raises Conflict, Forbidden."""
    if not await tx.persons.add(person):
        raise Conflict(f"the name {person.name} is taken: choose another one")
    detail = {"role": person.role.value}
    if invitation:
        if not await tx.persons.use_invitation(invitation.code_hash, person.id, origin.at):
            raise Forbidden("the invitation has been used, or has expired: get another one")
        detail["invitation"] = invitation.id
    await tx.tasks.add(NewTask(name="create_data_key", person=person.id), origin.at)
    origin = origin._replace(actor=origin.actor or person.id)
    await tx.audit.append(origin.done("registered", person.id, **detail), origin.at)


def new_invitation(role: PersonRole, expires_at: int, origin: Origin, name: str = "") -> tuple[str, Invitation]:
    """Return a code and its invitation. `name`: an id that is the same each time."""
    code = make_token(TokenType.INVITATION)
    invitation = Invitation(
        id=name or new_id(origin.at),
        code_hash=hash_token(code),
        role=role,
        created_by="" if origin.actor == OPERATOR else origin.actor,
        created_at=origin.at,
        expires_at=expires_at,
    )
    return code, invitation


async def invite(tx: AccountTransaction, invitation: Invitation, origin: Origin) -> None:
    """Add an invitation."""
    await tx.persons.add_invitation(invitation)
    detail = {"invitation": invitation.id, "role": invitation.role.value}
    await tx.audit.append(origin.done("invited", "", **detail), origin.at)


async def set_state(tx: AccountTransaction, person: str, state: PersonState, origin: Origin) -> Person:
    """Enable a person, or disable and sign out everywhere. Return the person. Raises NotFound."""
    found = await tx.persons.lock(person)
    if found is None:
        raise NotFound(f"there is no person with the id {person[:40]!r}")
    if await tx.persons.set_state(person, state):
        if state is PersonState.DISABLED:
            await tx.sign_ins.revoke_all(person, RevokeReason.ADMIN, origin.at)
        action = "person_disabled" if state is PersonState.DISABLED else "person_enabled"
        await tx.audit.append(origin.done(action, person), origin.at)
    return replace(found, state=state)


async def replace_password(
    tx: AccountTransaction, person: str, password_hash: str, origin: Origin, keep: str = ""
) -> None:
    """Replace a person's password, and revoke all sign-ins but for the one of the id `keep`."""
    await tx.persons.set_password(person, password_hash, origin.at)
    await tx.sign_ins.revoke_all(person, RevokeReason.PASSWORD, origin.at, keep)
    action = "password_reset" if origin.actor == OPERATOR else "password_changed"
    await tx.audit.append(origin.done(action, person), origin.at)


async def delete_old_credentials(tx: AccountTransaction, now: int) -> int:
    """Delete invitations, sign-ins and API tokens that ended long ago. Return how many."""
    before = now - ENDED_RETENTION_MS
    return (
        await tx.persons.delete_invitations(before)
        + await tx.sign_ins.delete_ended(before)
        + await tx.api_tokens.delete_expired(before)
    )


async def cancel_task(tx: AccountTransaction, task: Task, origin: Origin) -> Task:
    """Cancel a task; a running one soon. Raises Conflict."""
    cancelled = await tx.tasks.cancel(task.id, origin.at)
    if cancelled is None:
        raise Conflict("this task has ended: there is nothing to cancel")
    await tx.audit.append(origin.done("task_cancelled", task.person or "", task=task.id, name=task.name), origin.at)
    return cancelled


async def replay_task(tx: AccountTransaction, task: Task, origin: Origin) -> Task:
    """Queue a failed task again. Raises Conflict."""
    replayed = await tx.tasks.replay(task.id, origin.at)
    if replayed is None:
        raise Conflict("only a failed task can be replayed")
    await tx.audit.append(origin.done("task_replayed", task.person or "", task=task.id, name=task.name), origin.at)
    return replayed
