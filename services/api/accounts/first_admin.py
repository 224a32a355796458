"""The way to the first admin of a system: a code that is printed when the API starts, never a default password."""

import sys

from services.account_changes import FIRST_ADMIN_ID, INVITATION_SECONDS, OPERATOR, Origin, new_invitation
from services.core.accounts.scopes import PersonRole
from services.ports import Deps

JUST_PRINTED_MS = 60_000  # other replicas that start at the same time print no code of their own


async def print_first_admin_code(deps: Deps) -> None:
    """Print a code for the first admin, unless there is an admin, or another replica has just printed one.

    It is printed, not logged: the log masks tokens, and may be collected elsewhere. Raises Unavailable.
    """
    if code := await _new_code(deps):
        print(_line(code, deps.settings.public_url), file=sys.stderr, flush=True)  # noqa: T201


async def _new_code(deps: Deps) -> str:
    """Replace the code of an earlier start, of which only a hash is known. Return "" where none is needed."""
    origin = Origin(deps.clock.now(), OPERATOR)
    code, invitation = new_invitation(PersonRole.ADMIN, origin.at + INVITATION_SECONDS * 1000, origin, FIRST_ADMIN_ID)
    made_before = sys.maxsize if deps.settings.in_memory else origin.at - JUST_PRINTED_MS
    async with deps.accounts.transaction() as tx:
        if await tx.persons.has_admin() or not await tx.persons.renew_invitation(invitation, made_before):
            return ""
        await tx.audit.append(
            origin.done("invited", "", invitation=invitation.id, role=invitation.role.value), origin.at
        )
    return code


def _line(code: str, url: str) -> str:
    return (
        f"kurs: there is no admin yet; until tomorrow one registers with the invitation {code} "
        f"at {url}/v1/persons (docs/accounts.md)"
    )
