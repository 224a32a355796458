"""The exchange of refresh tokens, which finds out stolen ones: core/accounts/refreshing.py has the rules."""

import logging
import secrets
from typing import NamedTuple

from services.account_changes import Origin, make_token
from services.account_ports import AccountTransaction
from services.api.accounts import metrics
from services.api.accounts.composition import Accounts
from services.core.accounts.model import Person, RevokeReason, SignIn
from services.core.accounts.refreshing import repeated_successor, rotation
from services.core.accounts.sealing import NONCE_BYTES
from services.core.accounts.token_format import TokenType, check_token, family_of, hash_token
from services.core.errors import Unauthenticated

log = logging.getLogger(__name__)


class Refreshed(NamedTuple):
    """A sign-in after the exchange of its refresh token."""

    person: Person
    sign_in: SignIn
    refresh_token: str


async def refresh(accounts: Accounts, presented: str, origin: Origin) -> Refreshed:
    """Exchange a refresh token. Raises Unauthenticated, Unavailable."""
    if check_token(presented) is not TokenType.REFRESH:
        raise Unauthenticated("this is no refresh token of Kurs", presented=True)
    async with accounts.store.transaction() as tx:
        refreshed = await _exchange(tx, presented, origin)
        reused = None if refreshed else await _revoke_if_reused(tx, presented, origin)
    if reused:  # only after the commit
        accounts.authenticator.forget(reused.person)
        metrics.REUSED.inc()
        extra = {"person": reused.person, "sign_in": reused.id, "address": origin.address}
        log.warning("sign-in: ended: an old refresh token was presented again, so it may be stolen", extra=extra)
    if refreshed is None:
        raise Unauthenticated("the refresh token is not valid: sign in again", presented=True)
    return refreshed


async def _exchange(tx: AccountTransaction, presented: str, origin: Origin) -> Refreshed | None:
    """Return the successor of a token, one and the same for all that present it at once."""
    successor = make_token(TokenType.REFRESH, family_of(presented))
    new = rotation(presented, successor, origin.at, secrets.token_bytes(NONCE_BYTES))
    sign_in = await tx.sign_ins.rotate(new)
    if sign_in is None:
        sign_in = await _active_of_family(tx, presented, origin.at)
        repeated = repeated_successor(sign_in, presented, origin.at) if sign_in else None
        if sign_in is None or repeated is None:
            return None
        successor = repeated
    person = await tx.persons.get(sign_in.person)
    return Refreshed(person, sign_in, successor) if person else None


async def _revoke_if_reused(tx: AccountTransaction, presented: str, origin: Origin) -> SignIn | None:
    """End the active sign-in of a token that is of its family, but not valid. Return it."""
    sign_in = await _active_of_family(tx, presented, origin.at)
    if sign_in and await tx.sign_ins.revoke(sign_in.id, RevokeReason.REUSE, origin.at):
        await tx.audit.append(origin.refused("refresh_reused", sign_in.person, sign_in=sign_in.id), origin.at)
        return sign_in
    return None


async def _active_of_family(tx: AccountTransaction, presented: str, now: int) -> SignIn | None:
    sign_in = await tx.sign_ins.of_family(hash_token(family_of(presented)))
    return sign_in if sign_in and sign_in.revoked_at is None and sign_in.expires_at > now else None
