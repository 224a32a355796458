"""`POST /v1/sign-in` and `/v1/sign-in/refresh`: tokens for a name and a password, or for a refresh token."""

from functools import partial

from services.account_changes import Origin, make_token, new_id
from services.api.accounts import metrics, schemas
from services.api.accounts.access_tokens import LIFETIME_SECONDS
from services.api.accounts.bodies import Credentials, RefreshRequest
from services.api.accounts.refresh_tokens import Refreshed, refresh
from services.api.components import ApiComponents
from services.core.accounts.credentials import normalize_name, normalize_password
from services.core.accounts.model import Person, PersonState, SignIn
from services.core.accounts.passwords import needs_rehash
from services.core.accounts.refreshing import LIFETIME_MS
from services.core.accounts.scopes import format_scopes, scopes_of
from services.core.accounts.secret import Secret
from services.core.accounts.token_format import TokenType, family_of, hash_token
from services.core.errors import BadRange, Forbidden, Unauthenticated
from services.web import Content, Endpoint, NoQuery, RequestContext, quota_policies

MAX_SIGN_INS = 100  # active ones of a person; more would be programs that never sign out
SIGN_IN = Endpoint(
    path="/v1/sign-in",
    limit=quota_policies.SIGN_IN,
    query=NoQuery,
    method="POST",
    body=Credentials,
    response=schemas.SignedIn,
    tag="accounts",
    operation_id="sign_in",
    summary="Sign in",
    description="Exchanges a name and a password for an access token, which is sent as `Authorization: Bearer …`, and "
    "a refresh token, which gives the next pair. 401: name or password is wrong; 503: too many people sign in now.",
)
REFRESH = Endpoint(
    path="/v1/sign-in/refresh",
    limit=quota_policies.REFRESH,
    query=NoQuery,
    method="POST",
    body=RefreshRequest,
    response=schemas.SignedIn,
    tag="accounts",
    operation_id="refresh_sign_in",
    summary="Get the next tokens",
    description="Exchanges a refresh token, which then is used up, for the next pair. Presented again within 30 s, "
    "while the next one is unused, it gives the same next one, so a retry and two tabs do no harm. Presented later, it "
    "ends the sign-in: it may be stolen.",
)


class SignInHandlers:
    """Sign-ins and their tokens."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts = parts.accounts

    @SIGN_IN.handler
    async def sign_in(self, _query: NoQuery, body: Credentials, context: RequestContext) -> Content:
        """Sign a person in. Raises Unauthenticated, Forbidden, QuotaExceeded, Overloaded, Unavailable."""
        self._accounts.passwords.check_room()
        origin = self._accounts.origin(context)._replace(actor="")
        person = await self._find(body.name)
        is_known = partial(self._is_signed_in_at, person, context.address)
        async with self._accounts.throttle.attempt(body.name, context.address, is_known):
            person = await self._verified(person, body.password, origin)
        password_hash = await self._current_hash(person, body.password)
        signed_in = await self._begin(person, password_hash, origin._replace(actor=person.id))
        metrics.SIGN_INS.labels("done").inc()
        return await self._tokens(signed_in, origin.at)

    @REFRESH.handler
    async def refresh(self, _query: NoQuery, body: RefreshRequest, context: RequestContext) -> Content:
        """Exchange a refresh token. Raises Unauthenticated, Unavailable."""
        origin = self._accounts.origin(context)._replace(actor="")
        return await self._tokens(await refresh(self._accounts, body.refresh_token.reveal(), origin), origin.at)

    async def _verified(self, person: Person | None, password: Secret, origin: Origin) -> Person:
        """Return the person if the password is right. Raises Unauthenticated, Forbidden, Overloaded."""
        verified = await self._accounts.passwords.verify(password, person.password_hash if person else None)
        if person is None or not verified:
            await self._refuse(person, origin, "password" if person else "name")
            raise Unauthenticated("the name or the password is wrong")
        if person.state is not PersonState.ACTIVE:
            await self._refuse(person, origin, "disabled")
            raise Forbidden(f"{person.name} is disabled: only an admin can change that")
        return person

    async def _is_signed_in_at(self, person: Person | None, address: str) -> bool:
        """Return whether a person has an active sign-in from an address, after the same work if there is no person."""
        async with self._accounts.store.transaction() as tx:
            sign_ins = await tx.sign_ins.of_person(person.id if person else "", self._accounts.clock.now())
        return any(each.address == address for each in sign_ins)

    async def _find(self, text: str) -> Person | None:
        try:
            name = normalize_name(text)
        except BadRange:
            return None  # no person has such a name
        async with self._accounts.store.transaction() as tx:
            return await tx.persons.named(name)

    async def _refuse(self, person: Person | None, origin: Origin, reason: str) -> None:
        metrics.SIGN_INS.labels("refused").inc()
        async with self._accounts.store.transaction() as tx:
            event = origin.refused("sign_in", person.id if person else "", reason=reason)
            await tx.audit.append(event, origin.at)

    async def _current_hash(self, person: Person, password: Secret) -> str:
        """Return the password's hash with the parameters that new ones have."""
        if not needs_rehash(person.password_hash):
            return person.password_hash
        return await self._accounts.passwords.hash(normalize_password(password.reveal()))

    async def _begin(self, person: Person, password_hash: str, origin: Origin) -> Refreshed:
        """Add a sign-in. Raises Unauthenticated if the person was changed since the password was checked."""
        token = make_token(TokenType.REFRESH)
        sign_in = _new_sign_in(person, token, origin)
        async with self._accounts.store.transaction() as tx:
            if await tx.persons.lock(person.id) != person:
                raise Unauthenticated("the person was changed just now: sign in again")
            if password_hash != person.password_hash:
                await tx.persons.set_password(person.id, password_hash, person.password_changed_at)
            await tx.sign_ins.add(sign_in, MAX_SIGN_INS)
            await tx.audit.append(origin.done("sign_in", person.id, sign_in=sign_in.id), origin.at)
        return Refreshed(person, sign_in, token)

    async def _tokens(self, refreshed: Refreshed, now: int) -> Content:
        person, sign_in, refresh_token = refreshed
        scopes = scopes_of(person.role)
        body = schemas.SignedIn(
            access_token=await self._accounts.access_tokens.issue(person, sign_in.id, scopes, now),
            expires_in=LIFETIME_SECONDS,
            refresh_token=refresh_token,
            refresh_expires_in=(sign_in.expires_at - now) // 1000,
            scope=format_scopes(scopes),
            person=schemas.Person.of(person),
        )
        return Content(body.model_dump_json().encode())


def _new_sign_in(person: Person, refresh_token: str, origin: Origin) -> SignIn:
    return SignIn(
        id=new_id(origin.at),
        person=person.id,
        family_hash=hash_token(family_of(refresh_token)),
        refresh_hash=hash_token(refresh_token),
        created_at=origin.at,
        last_used_at=origin.at,
        expires_at=origin.at + LIFETIME_MS,
        address=origin.address,
        agent=origin.agent,
    )
