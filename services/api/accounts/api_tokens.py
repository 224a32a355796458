"""`/v1/api-tokens`: tokens of a person's programs."""

from typing import Annotated

from msgspec import Meta, Struct

from services.account_changes import Origin, make_token, new_id
from services.api.accounts import schemas
from services.api.accounts.bodies import NewApiToken
from services.api.components import ApiComponents
from services.core.accounts.model import ApiToken
from services.core.accounts.scopes import Scope, format_scopes
from services.core.accounts.token_format import SHOWN_LENGTH, TokenType, hash_token
from services.core.errors import BadRange, Conflict, MissingScope, NotFound
from services.web import ACCESS_ONLY, Caller, Content, Endpoint, NoQuery, RequestContext

MAX_TOKENS = 50  # of a person


class ApiTokenQuery(Struct, kw_only=True, frozen=True):
    """One API token."""

    id: Annotated[str, Meta(description="Of `GET /v1/api-tokens`", examples=["019ad9a1-7c55-7d3e-8f10-2b64d1c0a9e7"])]


NEW_API_TOKEN = Endpoint(
    path="/v1/api-tokens",
    query=NoQuery,
    method="POST",
    body=NewApiToken,
    status=201,
    response=schemas.MadeApiToken,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="new_api_token",
    summary="Make an API token",
    description="The response is the only one with the token. It allows the scopes that the body names, of those that "
    "the person has. 409: the person has 50 tokens.",
)
API_TOKENS = Endpoint(
    path="/v1/api-tokens",
    query=NoQuery,
    response=schemas.ApiTokens,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="api_tokens",
    summary="API tokens",
    description="Those of the person that have not expired, newest first.",
)
DELETE_API_TOKEN = Endpoint(
    path="/v1/api-tokens/{id}",
    query=ApiTokenQuery,
    method="DELETE",
    status=204,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="delete_api_token",
    summary="Delete an API token",
    description="It is refused at once here, at other replicas within 5 s. 404: the person has no token of this id.",
)


class ApiTokenHandlers:
    """The API tokens of a person."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts = parts.accounts

    @NEW_API_TOKEN.handler
    async def new_api_token(self, _query: NoQuery, body: NewApiToken, context: RequestContext) -> Content:
        """Make a token. Raises BadRange, MissingScope, Conflict, Unavailable."""
        _check(body, context.known_caller)
        origin = self._accounts.origin(context)
        text = make_token(TokenType.PERSONAL)
        token = _new_token(body, text, origin)
        async with self._accounts.store.transaction() as tx:
            await tx.persons.lock(origin.actor)
            if not await tx.api_tokens.add(token, MAX_TOKENS):
                raise Conflict(f"a person has at most {MAX_TOKENS} API tokens: delete one that is not needed")
            detail = {"token": token.id, "scope": token.scopes}
            await tx.audit.append(origin.done("api_token_created", origin.actor, **detail), origin.at)
        shown = schemas.MadeApiToken(**schemas.ApiToken.of(token).model_dump(), token=text)
        return Content(shown.model_dump_json().encode())

    @API_TOKENS.handler
    async def api_tokens(self, _query: NoQuery, context: RequestContext) -> Content:
        """Return the caller's tokens. Raises Unavailable."""
        async with self._accounts.store.transaction() as tx:
            found = await tx.api_tokens.of_person(context.person, self._accounts.clock.now())
        body = schemas.ApiTokens(api_tokens=[schemas.ApiToken.of(each) for each in found])
        return Content(body.model_dump_json().encode())

    @DELETE_API_TOKEN.handler
    async def delete_api_token(self, query: ApiTokenQuery, context: RequestContext) -> Content:
        """Delete a token of the caller. Raises NotFound, Unavailable."""
        origin = self._accounts.origin(context)
        async with self._accounts.store.transaction() as tx:
            if not await tx.api_tokens.delete(query.id, origin.actor):
                raise NotFound(f"you have no API token {query.id[:40]!r}")
            await tx.audit.append(origin.done("api_token_deleted", origin.actor, token=query.id), origin.at)
        self._accounts.authenticator.forget(origin.actor)
        return Content(b"")


def _check(body: NewApiToken, caller: Caller) -> None:
    """Check what a token is to be. Raises BadRange, MissingScope."""
    if not body.name.isprintable() or not body.name.strip():
        raise BadRange("name: write characters that can be seen")
    if missing := set(body.scopes) - caller.scopes:
        scope = min(missing)
        raise MissingScope(scope, f"scopes: you have no `{scope}` to give; yours are: {format_scopes(caller.scopes)}")


def _new_token(body: NewApiToken, text: str, origin: Origin) -> ApiToken:
    return ApiToken(
        id=new_id(origin.at),
        person=origin.actor,
        kind=TokenType.PERSONAL,
        name=body.name.strip(),
        prefix=text[:SHOWN_LENGTH],
        hash=hash_token(text),
        scopes=format_scopes(body.scopes),
        created_at=origin.at,
        expires_at=origin.at + body.expires_in * 1000,
    )
