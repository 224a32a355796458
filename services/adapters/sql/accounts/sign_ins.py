"""Families of refresh tokens."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, Update, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.account_tables import persons, sign_ins
from services.adapters.sql.rows import to_row, to_struct, to_structs
from services.core.accounts.model import PersonState, RevokeReason, Rotation, SignIn


class SqlSignIns:
    """Families of refresh tokens, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, sign_in: SignIn, most: int) -> None:
        """Add a sign-in, and revoke the longest unused ones beyond `most`."""
        await self._connection.execute(insert(sign_ins).values(to_row(sign_in)))
        active = sign_ins.c.person == sign_in.person, *_active(sign_in.created_at)
        excess = select(sign_ins.c.id).where(*active).order_by(sign_ins.c.last_used_at.desc()).offset(most)
        await self._revoke(update(sign_ins).where(sign_ins.c.id.in_(excess)), RevokeReason.LIMIT, sign_in.created_at)

    async def get(self, sign_in: str) -> SignIn | None:
        """Return the sign-in of an id, active or not."""
        return await self._first(select(sign_ins).where(sign_ins.c.id == sign_in))

    async def active(self, ids: Collection[str], now: int) -> set[str]:
        """Return those ids that are of active sign-ins whose person is not disabled."""
        found = (
            select(sign_ins.c.id)
            .join(persons)
            .where(sign_ins.c.id.in_(ids), *_active(now), persons.c.state == PersonState.ACTIVE)
        )
        return set(await self._connection.scalars(found))

    async def of_family(self, family_hash: str) -> SignIn | None:
        """Return the sign-in of a family, active or not."""
        return await self._first(select(sign_ins).where(sign_ins.c.family_hash == family_hash))

    async def rotate(self, rotation: Rotation) -> SignIn | None:
        """Replace the refresh token of an active sign-in, if the presented one is valid.

        PostgreSQL lets the second of two wait for the first, and then compares again.
        """
        now, presented = rotation.rotated_at, sign_ins.c.refresh_hash == rotation.previous_hash
        statement = (
            update(sign_ins)
            .where(presented, *_active(now))
            .values(to_row(rotation) | {"last_used_at": now})
            .returning(sign_ins)
        )
        row = (await self._connection.execute(statement)).first()
        return to_struct(row, SignIn) if row else None

    async def of_person(self, person: str, now: int) -> list[SignIn]:
        """Return a person's active sign-ins, newest first."""
        found = select(sign_ins).where(sign_ins.c.person == person, *_active(now)).order_by(sign_ins.c.id.desc())
        return to_structs(await self._connection.execute(found), SignIn)

    async def revoke(self, sign_in: str, reason: RevokeReason, now: int) -> bool:
        """Revoke an active sign-in. Return whether it was active."""
        active = update(sign_ins).where(sign_ins.c.id == sign_in, *_active(now))
        return await self._revoke(active, reason, now) == 1

    async def revoke_all(self, person: str, reason: RevokeReason, now: int, but: str = "") -> int:
        """Revoke a person's active sign-ins, but for one. Return how many."""
        active = update(sign_ins).where(sign_ins.c.person == person, sign_ins.c.id != but, *_active(now))
        return await self._revoke(active, reason, now)

    async def delete_ended(self, before: int) -> int:
        """Delete sign-ins that expired or were revoked before `before`. Return how many."""
        old = delete(sign_ins).where(or_(sign_ins.c.expires_at < before, sign_ins.c.revoked_at < before))
        return (await self._connection.execute(old)).rowcount

    async def _revoke(self, some: Update, reason: RevokeReason, now: int) -> int:
        """Revoke sign-ins. Their successors are of no use any more."""
        values = {"revoked_at": now, "reason": reason.value, "successor": None}
        return (await self._connection.execute(some.values(values))).rowcount

    async def _first(self, found: Select[Any]) -> SignIn | None:
        row = (await self._connection.execute(found)).first()
        return to_struct(row, SignIn) if row else None


def _active(now: int) -> tuple[ColumnElement[bool], ...]:
    return sign_ins.c.revoked_at.is_(None), sign_ins.c.expires_at > now
