"""What the endpoints of people share."""

from functools import partial
from typing import NamedTuple

from services.api.accounts.access_tokens import AccessTokens
from services.api.accounts.signing_keys import SigningKeys
from services.api.accounts.stream_tickets import StreamTickets
from services.key_files import TOKEN_KEY, load_keys
from services.ports import Deps


class Accounts(NamedTuple):
    """One object of each kind in a process."""

    tickets: StreamTickets
    signing_keys: SigningKeys
    access_tokens: AccessTokens


def compose_accounts(deps: Deps) -> Accounts:
    """Return the objects of one process."""
    keys = SigningKeys(deps.accounts, deps.clock, partial(load_keys, deps.settings, TOKEN_KEY))
    return Accounts(StreamTickets(deps.cache), keys, AccessTokens(keys, deps.clock, deps.hub.market))
