"""The people behind bearer tokens: access tokens of sign-ins, and API tokens of programs."""

import math
from collections.abc import Collection
from typing import NamedTuple

from services.account_ports import AccountStore, AccountTransaction
from services.api.accounts.access_tokens import AccessTokens
from services.core.accounts.model import ApiToken, Person, PersonState
from services.core.accounts.scopes import parse_scopes, scopes_of
from services.core.accounts.token_format import TokenType, check_token, hash_token
from services.core.errors import Unauthenticated
from services.ports import Clock
from services.web import Caller, FifoCache, SingleFlight, TokenKind

CACHE_MS = 5_000  # after which a sign-out or a deleted token counts at every replica
MAX_CACHED = 10_000  # callers; a token that is not valid is never among them, so it displaces none
USE_INTERVAL_MS = 60_000  # between two times that the use of an API token is saved


class CachedCaller(NamedTuple):
    """A caller, up to a monotonic time."""

    caller: Caller
    until: int


class TokenAuthenticator:
    """Knows the caller of a token. A token of a wrong form is refused before the database is queried."""

    def __init__(self, store: AccountStore, clock: Clock, access_tokens: AccessTokens) -> None:
        self._store, self._clock, self._access_tokens = store, clock, access_tokens
        self._callers: FifoCache[str, CachedCaller] = FifoCache(MAX_CACHED)
        self._loads: SingleFlight[tuple[int, str], Caller] = SingleFlight()
        self._revocations = 0

    def cached(self, token: str) -> Caller | None:
        """Return the caller without waiting, None if that needs a wait."""
        found = self._callers.get(hash_token(token))
        return found.caller if found and self._clock.monotonic() < found.until else None

    async def caller(self, token: str) -> Caller:
        """Return the caller. Raises Unauthenticated, Unavailable."""
        return self.cached(token) or await self._loads.run((self._revocations, token), self._load)

    def forget(self, person: str) -> None:
        """Check the tokens of a person again: something of theirs was revoked at this replica."""
        self._revocations += 1
        self._callers.drop(*(key for key, cached in self._callers.items() if cached.caller.person == person))

    async def ended(self, callers: Collection[Caller]) -> set[Caller]:
        """Return those callers whose sign-in or API token is no longer valid. Raises Unavailable."""
        now, ids = self._clock.now(), {caller.token for caller in callers}
        async with self._store.transaction() as tx:
            valid = await tx.sign_ins.active(ids, now) | await tx.api_tokens.active(ids, now)
        return {caller for caller in callers if caller.token not in valid}

    async def _load(self, key: tuple[int, str]) -> Caller:
        (revocations, token), now = key, self._clock.now()
        if check_token(token) is TokenType.PERSONAL:
            caller, expires_at = await self._program(token, now)
        else:
            caller, expires_at = await self._signed_in(token, now)
        lifetime = min(CACHE_MS, expires_at - now)
        if revocations == self._revocations:  # otherwise what was read may be older than the revocation
            self._callers.put(hash_token(token), CachedCaller(caller, self._clock.monotonic() + lifetime))
        return caller

    async def _signed_in(self, token: str, now: int) -> tuple[Caller, int]:
        """Return the caller of an access token, and when the token expires."""
        claims = await self._access_tokens.verify(token)
        async with self._store.transaction() as tx:
            person = await _of_sign_in(tx, claims.sign_in, now)
        if person is None:
            raise Unauthenticated("the sign-in has ended: sign in again", presented=True)
        scopes = claims.scopes & scopes_of(person.role)
        return Caller(person.id, person.name, TokenKind.ACCESS, scopes, claims.sign_in), claims.expires_at

    async def _program(self, token: str, now: int) -> tuple[Caller, int]:
        """Return the caller of an API token, and when the token expires."""
        async with self._store.transaction() as tx:
            found = await tx.api_tokens.find(hash_token(token), now)
            person = await _active(tx, found.person) if found else None
            if found is None or person is None:
                raise Unauthenticated("the API token was deleted, or has expired", presented=True)
            if now - (found.last_used_at or -math.inf) >= USE_INTERVAL_MS:
                await tx.api_tokens.mark_used(found.id, now)
        return _caller_of(found, person), found.expires_at


def _caller_of(token: ApiToken, person: Person) -> Caller:
    scopes = parse_scopes(token.scopes) & scopes_of(person.role)
    return Caller(person.id, person.name, TokenKind.API, scopes, token.id)


async def _of_sign_in(tx: AccountTransaction, sign_in: str, now: int) -> Person | None:
    """Return the person of an active sign-in."""
    found = await tx.sign_ins.get(sign_in)
    if found is None or found.revoked_at is not None or found.expires_at <= now:
        return None
    return await _active(tx, found.person)


async def _active(tx: AccountTransaction, person: str) -> Person | None:
    """Return a person that is not disabled."""
    found = await tx.persons.get(person)
    return found if found and found.state is PersonState.ACTIVE else None
