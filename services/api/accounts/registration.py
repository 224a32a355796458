"""`POST /v1/persons`: registration, with an invitation where it is not open."""

from services.account_changes import new_person, register
from services.api.accounts import schemas
from services.api.accounts.bodies import NewPerson
from services.api.components import ApiComponents
from services.core.accounts.credentials import check_new_password, normalize_name
from services.core.accounts.model import Invitation
from services.core.accounts.scopes import PersonRole
from services.core.accounts.secret import Secret
from services.core.accounts.token_format import TokenType, check_token, hash_token
from services.core.errors import BadRange, Forbidden
from services.web import Content, Endpoint, NoQuery, RequestContext
from services.web.quota_policies import REGISTRATION

NEEDS_INVITATION = {
    "invitation": "registration needs a code for `invitation`: ask an admin (POST /v1/invitations) or the operator "
    "(kurs persons invite)",
    "closed": "registration is closed: only the operator (kurs persons invite) gives a code for `invitation`",
}
REGISTER = Endpoint(
    path="/v1/persons",
    limit=REGISTRATION,
    query=NoQuery,
    method="POST",
    body=NewPerson,
    status=201,
    response=schemas.Person,
    tag="accounts",
    operation_id="register",
    summary="Register",
    description="Registers a person. `KURS_REGISTRATION` decides whether that needs an invitation. 409: the name is "
    "taken; 403: the invitation is missing, used or expired; 422: name or password is not accepted.",
)


class RegistrationHandlers:
    """The registration of people."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts, self._mode = parts.accounts, parts.deps.settings.registration

    @REGISTER.handler
    async def register(self, _query: NoQuery, body: NewPerson, context: RequestContext) -> Content:
        """Register a person. Raises BadRange, Forbidden, Conflict, Overloaded, Unavailable."""
        self._accounts.passwords.check_room()
        accounts, origin = self._accounts, self._accounts.origin(context)._replace(actor="")
        name = normalize_name(body.name)
        password = check_new_password(body.password.reveal(), name)
        invitation = await self._invitation(body.invitation, origin.at)
        role = invitation.role if invitation else PersonRole.TRADER
        person = new_person(name, await accounts.passwords.hash(password), role, origin.at)
        async with accounts.store.transaction() as tx:
            await register(tx, person, origin, invitation)
        return Content(schemas.Person.of(person).model_dump_json().encode())

    async def _invitation(self, code: Secret | None, now: int) -> Invitation | None:
        """Return the invitation of a code. Raises Forbidden where none is needed but missing, or may not be used."""
        if code is None:
            if self._mode in NEEDS_INVITATION:
                raise Forbidden(NEEDS_INVITATION[self._mode])
            return None
        if check_token(code.reveal()) is not TokenType.INVITATION:
            raise BadRange("invitation: this is no code: it begins with kurs_i_ and has 43 characters")
        async with self._accounts.store.transaction() as tx:
            found = await tx.persons.invitation(hash_token(code.reveal()), now)
        if found is None:
            raise Forbidden("the invitation has been used, or has expired: get another one")
        if self._mode == "closed" and found.created_by:
            raise Forbidden("registration is closed: only invitations of the operator are accepted")
        return found
