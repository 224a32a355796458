"""`/v1/sign-in` and `/v1/sign-ins`: where a person is signed in, and the ends of that."""

from typing import Annotated

from msgspec import Meta, Struct

from services.api.accounts import schemas
from services.api.components import ApiComponents
from services.core.accounts.model import RevokeReason
from services.core.accounts.scopes import Scope
from services.core.errors import NotFound
from services.web import ACCESS_ONLY, Content, Endpoint, NoQuery, RequestContext


class SignInQuery(Struct, kw_only=True, frozen=True):
    """One sign-in."""

    id: Annotated[str, Meta(description="Of `GET /v1/sign-ins`", examples=["019ad9a1-7c55-7d3e-8f10-2b64d1c0a9e7"])]


SIGN_OUT = Endpoint(
    path="/v1/sign-in",
    query=NoQuery,
    method="DELETE",
    status=204,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="sign_out",
    summary="Sign out",
    description="Ends the sign-in of this access token. It is refused at once here, at other replicas within 5 s.",
)
SIGN_OUT_EVERYWHERE = Endpoint(
    path="/v1/sign-ins",
    query=NoQuery,
    method="DELETE",
    status=204,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="sign_out_everywhere",
    summary="Sign out everywhere",
    description="Ends all sign-ins of the person. API tokens stay valid.",
)
SIGN_IN_LIST = Endpoint(
    path="/v1/sign-ins",
    query=NoQuery,
    response=schemas.SignIns,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="sign_ins",
    summary="Where one is signed in",
    description="The active sign-ins of the person, newest first.",
)
END_SIGN_IN = Endpoint(
    path="/v1/sign-ins/{id}",
    query=SignInQuery,
    method="DELETE",
    status=204,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="end_sign_in",
    summary="End one sign-in",
    description="404: the person has no active sign-in of this id.",
)


class SignOutHandlers:
    """The active sign-ins of a person."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts = parts.accounts

    @SIGN_OUT.handler
    async def sign_out(self, _query: NoQuery, context: RequestContext) -> Content:
        """End the caller's sign-in. Raises Unavailable."""
        await self._end(context.known_caller.token, "sign_out", context)
        return Content(b"")

    @SIGN_OUT_EVERYWHERE.handler
    async def sign_out_everywhere(self, _query: NoQuery, context: RequestContext) -> Content:
        """End all sign-ins of the caller. Raises Unavailable."""
        origin, person = self._accounts.origin(context), context.person
        async with self._accounts.store.transaction() as tx:
            count = await tx.sign_ins.revoke_all(person, RevokeReason.SIGN_OUT, origin.at)
            await tx.audit.append(origin.done("sign_out_everywhere", person, sign_ins=str(count)), origin.at)
        self._accounts.authenticator.forget(person)
        return Content(b"")

    @SIGN_IN_LIST.handler
    async def sign_ins(self, _query: NoQuery, context: RequestContext) -> Content:
        """Return the caller's sign-ins. Raises Unavailable."""
        async with self._accounts.store.transaction() as tx:
            found = await tx.sign_ins.of_person(context.person, self._accounts.clock.now())
        rows = [schemas.SignIn.of(each, context.known_caller.token) for each in found]
        return Content(schemas.SignIns(sign_ins=rows).model_dump_json().encode())

    @END_SIGN_IN.handler
    async def end_sign_in(self, query: SignInQuery, context: RequestContext) -> Content:
        """End one sign-in of the caller. Raises NotFound, Unavailable."""
        if not await self._end(query.id, "sign_in_ended", context):
            raise NotFound(f"you have no active sign-in {query.id[:40]!r}")
        return Content(b"")

    async def _end(self, sign_in: str, action: str, context: RequestContext) -> bool:
        """End a sign-in if it is an active one of the caller. Return whether it was."""
        origin, person = self._accounts.origin(context), context.person
        async with self._accounts.store.transaction() as tx:
            found = await tx.sign_ins.get(sign_in)
            if found is None or found.person != person:
                return False
            if not await tx.sign_ins.revoke(sign_in, RevokeReason.SIGN_OUT, origin.at):
                return False
            await tx.audit.append(origin.done(action, person, sign_in=sign_in), origin.at)
        self._accounts.authenticator.forget(person)
        return True
