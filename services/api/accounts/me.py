"""`/v1/me`: the person of the token, and its password."""

from services.account_changes import Origin, replace_password
from services.api.accounts import schemas
from services.api.accounts.bodies import PasswordChange, PasswordConfirmation
from services.api.components import ApiComponents
from services.core.accounts.credentials import check_new_password
from services.core.accounts.model import Person
from services.core.accounts.scopes import Scope, format_scopes
from services.core.accounts.secret import Secret
from services.core.errors import BadRange, Conflict, Forbidden, Unauthenticated
from services.web import ACCESS_ONLY, Content, Endpoint, NoQuery, RequestContext
from services.web.quota_policies import PASSWORD

ME = Endpoint(
    path="/v1/me",
    query=NoQuery,
    response=schemas.Me,
    scope=Scope.READ,
    tag="accounts",
    operation_id="me",
    summary="The person of the token",
)
DELETE_ME = Endpoint(
    path="/v1/me",
    limit=PASSWORD,
    query=NoQuery,
    method="DELETE",
    body=PasswordConfirmation,
    status=204,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="delete_me",
    summary="Delete oneself",
    description="Deletes the person with all sign-ins, tokens and tasks, and the key that opens what they entrusted to "
    "Kurs. The audit log keeps the person's id, which no name belongs to any more. 403: the password is wrong.",
)
CHANGE_PASSWORD = Endpoint(
    path="/v1/me/password",
    limit=PASSWORD,
    query=NoQuery,
    method="POST",
    body=PasswordChange,
    status=204,
    scope=Scope.READ,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="change_password",
    summary="Change the password",
    description="Ends all other sign-ins of the person. API tokens stay valid. 403: the password is wrong.",
)


class MeHandlers:
    """What a person does about oneself."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts = parts.accounts

    @ME.handler
    async def me(self, _query: NoQuery, context: RequestContext) -> Content:
        """Return the caller. Raises Unauthenticated, Unavailable."""
        person = await self._person(context)
        caller = context.known_caller
        body = schemas.Me(
            **schemas.Person.of(person).model_dump(), token=caller.kind.value, scope=format_scopes(caller.scopes)
        )
        return Content(body.model_dump_json().encode())

    @CHANGE_PASSWORD.handler
    async def change_password(self, _query: NoQuery, body: PasswordChange, context: RequestContext) -> Content:
        """Change the caller's password. Raises BadRange, Forbidden, Conflict, Overloaded, Unavailable."""
        origin, person = self._accounts.origin(context), await self._person(context)
        password = check_new_password(body.new_password.reveal(), person.name)
        await self._verify(person, body.password, origin)
        if body.new_password == body.password:
            raise BadRange("new_password: it is the old one")
        password_hash = await self._accounts.passwords.hash(password)
        async with self._accounts.store.transaction() as tx:
            if await tx.persons.lock(person.id) != person:
                raise Conflict("the person was changed just now: try again")
            await replace_password(tx, person.id, password_hash, origin, keep=context.known_caller.token)
        self._accounts.authenticator.forget(person.id)
        return Content(b"")

    @DELETE_ME.handler
    async def delete_me(self, _query: NoQuery, body: PasswordConfirmation, context: RequestContext) -> Content:
        """Delete the caller. Raises Forbidden, Overloaded, Unavailable."""
        origin, person = self._accounts.origin(context), await self._person(context)
        await self._verify(person, body.password, origin)
        async with self._accounts.store.transaction() as tx:
            if await tx.persons.delete(person.id):
                await tx.audit.append(origin.done("person_deleted", person.id), origin.at)
        self._accounts.authenticator.forget(person.id)
        return Content(b"")

    async def _person(self, context: RequestContext) -> Person:
        async with self._accounts.store.transaction() as tx:
            person = await tx.persons.get(context.person)
        if person is None:  # deleted since the token was checked
            raise Unauthenticated("the person was deleted")
        return person

    async def _verify(self, person: Person, password: Secret, origin: Origin) -> None:
        """Check a person's password. Raises Forbidden."""
        if await self._accounts.passwords.verify(password, person.password_hash):
            return
        async with self._accounts.store.transaction() as tx:
            await tx.audit.append(origin.refused("password_confirmed", person.id), origin.at)
        raise Forbidden("the password is wrong")
