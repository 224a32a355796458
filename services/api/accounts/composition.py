"""What the endpoints of people share."""

from functools import partial
from typing import NamedTuple

from services.account_changes import Origin
from services.account_ports import AccountStore
from services.api.accounts.access_tokens import AccessTokens
from services.api.accounts.authentication import TokenAuthenticator
from services.api.accounts.password_hasher import PasswordHasher
from services.api.accounts.sign_in_throttle import SignInThrottle
from services.api.accounts.signing_keys import SigningKeys
from services.api.accounts.stream_tickets import StreamTickets
from services.key_files import TOKEN_KEY, load_keys
from services.ports import Clock, Deps
from services.web import RequestContext


class Accounts(NamedTuple):
    """One object of each kind in a process."""

    store: AccountStore
    clock: Clock
    passwords: PasswordHasher
    signing_keys: SigningKeys
    access_tokens: AccessTokens
    authenticator: TokenAuthenticator
    tickets: StreamTickets
    throttle: SignInThrottle

    def origin(self, context: RequestContext) -> Origin:
        """Return the origin of what a request changes now."""
        actor = context.caller.person if context.caller else ""
        return Origin(self.clock.now(), actor, context.address, context.agent)


def compose_accounts(deps: Deps) -> Accounts:
    """Return the objects of one process."""
    store, clock = deps.accounts, deps.clock
    keys = SigningKeys(store, clock, partial(load_keys, deps.settings, TOKEN_KEY))
    access_tokens = AccessTokens(keys, clock, deps.hub.market)
    authenticator = TokenAuthenticator(store, clock, access_tokens)
    tickets, throttle = StreamTickets(deps.cache), SignInThrottle(deps.cache, clock)
    return Accounts(store, clock, PasswordHasher(), keys, access_tokens, authenticator, tickets, throttle)
