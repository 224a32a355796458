"""`/v1/persons` for admins: all people, and whether they may sign in."""

from typing import Annotated

from msgspec import Meta, Struct

from services.account_changes import set_state
from services.api.accounts import schemas
from services.api.components import ApiComponents
from services.api.page_cursor import format_cursor, parse_cursor
from services.core.accounts.model import PersonState
from services.core.accounts.scopes import Scope
from services.core.errors import Conflict
from services.web import ACCESS_ONLY, Content, Endpoint, RequestContext

DEFAULT_PAGE, MAX_PAGE = 100, 1000


class PersonsQuery(Struct, kw_only=True, frozen=True):
    """A page of people."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="At most so many")] = DEFAULT_PAGE
    cursor: Annotated[
        Annotated[str, Meta(extra={"parse": parse_cursor})],
        Meta(description="`next` of the page before", examples=["MDE5YWQ5YTE"]),
    ] = ""


class PersonQuery(Struct, kw_only=True, frozen=True):
    """One person."""

    id: Annotated[str, Meta(description="Of `GET /v1/persons`", examples=["019ad9a1-7c55-7d3e-8f10-2b64d1c0a9e7"])]


PERSONS = Endpoint(
    path="/v1/persons",
    query=PersonsQuery,
    response=schemas.Persons,
    scope=Scope.ADMIN,
    tag="accounts",
    operation_id="persons",
    summary="All people",
    description="In the order in which they registered.",
)
DISABLE = Endpoint(
    path="/v1/persons/{id}/disable",
    query=PersonQuery,
    method="POST",
    response=schemas.Person,
    scope=Scope.ADMIN,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="disable_person",
    summary="Disable a person",
    description="Ends all sign-ins of a person. Until the person is enabled, sign-ins and API tokens are refused. 404: "
    "there is no such person; 409: an admin cannot disable oneself.",
)
ENABLE = Endpoint(
    path="/v1/persons/{id}/enable",
    query=PersonQuery,
    method="POST",
    response=schemas.Person,
    scope=Scope.ADMIN,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="enable_person",
    summary="Enable a person",
    description="Lets a disabled person sign in. 404: there is no such person.",
)


class PeopleHandlers:
    """All people."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts = parts.accounts

    @PERSONS.handler
    async def persons(self, query: PersonsQuery, _context: RequestContext) -> Content:
        """Return a page of people. Raises Unavailable."""
        async with self._accounts.store.transaction() as tx:
            found = await tx.persons.page(query.cursor, query.limit)
        following = format_cursor(found[-1].id) if len(found) == query.limit else None
        body = schemas.Persons(persons=[schemas.Person.of(each) for each in found], next=following)
        return Content(body.model_dump_json().encode())

    @DISABLE.handler
    async def disable(self, query: PersonQuery, context: RequestContext) -> Content:
        """Disable a person. Raises Conflict, NotFound, Unavailable."""
        if query.id == context.person:
            raise Conflict("you cannot disable yourself: another admin or the operator can")
        return await self._set_state(query.id, PersonState.DISABLED, context)

    @ENABLE.handler
    async def enable(self, query: PersonQuery, context: RequestContext) -> Content:
        """Enable a person. Raises NotFound, Unavailable."""
        return await self._set_state(query.id, PersonState.ACTIVE, context)

    async def _set_state(self, person: str, state: PersonState, context: RequestContext) -> Content:
        async with self._accounts.store.transaction() as tx:
            changed = await set_state(tx, person, state, self._accounts.origin(context))
        self._accounts.authenticator.forget(person)
        return Content(schemas.Person.of(changed).model_dump_json().encode())
