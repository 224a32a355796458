"""`/v1/invitations` for admins: codes with which people register."""

from services.account_changes import invite, new_invitation
from services.api.accounts import schemas
from services.api.accounts.bodies import NewInvitation
from services.api.components import ApiComponents
from services.core.accounts.scopes import Scope
from services.core.errors import Conflict
from services.web import ACCESS_ONLY, Content, Endpoint, NoQuery, RequestContext

MAX_LISTED = 1000
NEW_INVITATION = Endpoint(
    path="/v1/invitations",
    query=NoQuery,
    method="POST",
    body=NewInvitation,
    status=201,
    response=schemas.MadeInvitation,
    scope=Scope.ADMIN,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="new_invitation",
    summary="Invite somebody",
    description="The response is the only one with the code, with which one person registers. 409: registration is "
    "closed, so only the operator invites.",
)
INVITATIONS = Endpoint(
    path="/v1/invitations",
    query=NoQuery,
    response=schemas.Invitations,
    scope=Scope.ADMIN,
    tokens=ACCESS_ONLY,
    tag="accounts",
    operation_id="invitations",
    summary="Open invitations",
    description="Those that may still be used, newest first.",
)


class InvitationHandlers:
    """Invitations."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts, self._mode = parts.accounts, parts.deps.settings.registration

    @NEW_INVITATION.handler
    async def new_invitation(self, _query: NoQuery, body: NewInvitation, context: RequestContext) -> Content:
        """Make an invitation. Raises Conflict, Unavailable."""
        if self._mode == "closed":
            raise Conflict("registration is closed, see KURS_REGISTRATION: the operator invites (kurs persons invite)")
        origin = self._accounts.origin(context)
        code, invitation = new_invitation(body.role, origin.at + body.expires_in * 1000, origin)
        async with self._accounts.store.transaction() as tx:
            await invite(tx, invitation, origin)
        shown = schemas.MadeInvitation(**schemas.Invitation.of(invitation).model_dump(), code=code)
        return Content(shown.model_dump_json().encode())

    @INVITATIONS.handler
    async def invitations(self, _query: NoQuery, _context: RequestContext) -> Content:
        """Return open invitations. Raises Unavailable."""
        async with self._accounts.store.transaction() as tx:
            found = await tx.persons.invitations(self._accounts.clock.now(), MAX_LISTED)
        body = schemas.Invitations(invitations=[schemas.Invitation.of(each) for each in found])
        return Content(body.model_dump_json().encode())
