"""Tokens of programs."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql.account_tables import api_tokens, persons
from services.adapters.sql.rows import to_row, to_struct, to_structs
from services.core.accounts.model import ApiToken, PersonState


class SqlApiTokens:
    """Tokens of programs, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, token: ApiToken, most: int) -> bool:
        """Add a token, unless its person has `most` unexpired ones."""
        counted = select(func.count()).select_from(api_tokens).where(*_of(token.person, token.created_at))
        if (await self._connection.scalar(counted) or 0) >= most:
            return False
        await self._connection.execute(insert(api_tokens).values(to_row(token)))
        return True

    async def find(self, token_hash: str, now: int) -> ApiToken | None:
        """Return the unexpired token of a hash."""
        found = select(api_tokens).where(api_tokens.c.hash == token_hash, api_tokens.c.expires_at > now)
        row = (await self._connection.execute(found)).first()
        return to_struct(row, ApiToken) if row else None

    async def active(self, ids: Collection[str], now: int) -> set[str]:
        """Return those ids that are of unexpired tokens whose person is not disabled."""
        found = (
            select(api_tokens.c.id)
            .join(persons)
            .where(api_tokens.c.id.in_(ids), api_tokens.c.expires_at > now, persons.c.state == PersonState.ACTIVE)
        )
        return set(await self._connection.scalars(found))

    async def of_person(self, person: str, now: int) -> list[ApiToken]:
        """Return a person's unexpired tokens, newest first."""
        found = select(api_tokens).where(*_of(person, now)).order_by(api_tokens.c.id.desc())
        return to_structs(await self._connection.execute(found), ApiToken)

    async def mark_used(self, token: str, now: int) -> None:
        """Save when a token was last used."""
        await self._connection.execute(update(api_tokens).where(api_tokens.c.id == token).values(last_used_at=now))

    async def delete(self, token: str, person: str) -> bool:
        """Delete a person's token. Return whether there was one."""
        own = delete(api_tokens).where(api_tokens.c.id == token, api_tokens.c.person == person)
        return (await self._connection.execute(own)).rowcount == 1

    async def delete_expired(self, before: int) -> int:
        """Delete tokens that expired before `before`. Return how many."""
        return (await self._connection.execute(delete(api_tokens).where(api_tokens.c.expires_at < before))).rowcount


def _of(person: str, now: int) -> tuple[ColumnElement[bool], ...]:
    return api_tokens.c.person == person, api_tokens.c.expires_at > now
