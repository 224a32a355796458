"""People and invitations."""

from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql import dialect
from services.adapters.sql.account_tables import invitations, persons
from services.adapters.sql.rows import to_row, to_struct, to_structs
from services.core.accounts.model import Invitation, Person, PersonState
from services.core.accounts.scopes import PersonRole


class SqlPersons:
    """People and invitations, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, person: Person) -> bool:
        """Add a person. Return False if the name is taken."""
        statement = dialect.insert(self._connection, persons).values(to_row(person)).on_conflict_do_nothing()
        return (await self._connection.execute(statement)).rowcount == 1

    async def get(self, person: str) -> Person | None:
        """Return the person of an id."""
        return await self._first(select(persons).where(persons.c.id == person))

    async def named(self, name: str) -> Person | None:
        """Return the person of a name."""
        return await self._first(select(persons).where(persons.c.name == name))

    async def lock(self, person: str) -> Person | None:
        """Return the person of an id, locked. On SQLite the whole transaction is alone anyway."""
        return await self._first(select(persons).where(persons.c.id == person).with_for_update())

    async def page(self, after: str, limit: int) -> list[Person]:
        """Return people with a higher id."""
        found = select(persons).where(persons.c.id > after).order_by(persons.c.id).limit(limit)
        return to_structs(await self._connection.execute(found), Person)

    async def has_admin(self) -> bool:
        """Return whether anyone is an admin."""
        return bool(await self._connection.scalar(select(exists().where(persons.c.role == PersonRole.ADMIN.value))))

    async def set_password(self, person: str, password_hash: str, changed_at: int) -> None:
        """Replace a password's hash."""
        values = {"password_hash": password_hash, "password_changed_at": changed_at}
        await self._connection.execute(update(persons).where(persons.c.id == person).values(values))

    async def set_state(self, person: str, state: PersonState) -> bool:
        """Change a person's state. Return whether it was another one."""
        changed = update(persons).where(persons.c.id == person, persons.c.state != state.value)
        return (await self._connection.execute(changed.values(state=state.value))).rowcount == 1

    async def delete(self, person: str) -> bool:
        """Delete a person; the database deletes what refers to them."""
        return (await self._connection.execute(delete(persons).where(persons.c.id == person))).rowcount == 1

    async def add_invitation(self, invitation: Invitation) -> None:
        """Add an invitation."""
        await self._connection.execute(insert(invitations).values(to_row(invitation)))

    async def renew_invitation(self, invitation: Invitation, made_before: int) -> bool:
        """Add an invitation, or replace an older one of the same id. Return whether it was done."""
        row = to_row(invitation)
        statement = (
            dialect.insert(self._connection, invitations)
            .values(row)
            .on_conflict_do_update(
                index_elements=[invitations.c.id], set_=row, where=invitations.c.created_at < made_before
            )
        )
        return (await self._connection.execute(statement)).rowcount == 1

    async def invitation(self, code_hash: str, now: int) -> Invitation | None:
        """Return the invitation of a code that may still be used."""
        found = select(invitations).where(invitations.c.code_hash == code_hash, *_usable(now))
        row = (await self._connection.execute(found)).first()
        return to_struct(row, Invitation) if row else None

    async def use_invitation(self, code_hash: str, person: str, now: int) -> bool:
        """Mark an invitation as used. Return False if it may not be used."""
        used = update(invitations).where(invitations.c.code_hash == code_hash, *_usable(now))
        return (await self._connection.execute(used.values(used_by=person, used_at=now))).rowcount == 1

    async def invitations(self, now: int, limit: int) -> list[Invitation]:
        """Return invitations that may still be used, newest first."""
        found = select(invitations).where(*_usable(now)).order_by(invitations.c.created_at.desc()).limit(limit)
        return to_structs(await self._connection.execute(found), Invitation)

    async def delete_invitations(self, expired_before: int) -> int:
        """Delete invitations. Return how many."""
        old = delete(invitations).where(invitations.c.expires_at < expired_before)
        return (await self._connection.execute(old)).rowcount

    async def _first(self, found: Select[Any]) -> Person | None:
        row = (await self._connection.execute(found)).first()
        return to_struct(row, Person) if row else None


def _usable(now: int) -> tuple[ColumnElement[bool], ...]:
    return invitations.c.used_at.is_(None), invitations.c.expires_at > now
