"""The caller of a request: an anonymous client, or a person with a token."""

from enum import StrEnum
from typing import NamedTuple, Protocol

from services.core.accounts.scopes import Scope

BEARER = b"bearer "
CONTEXT = "kurs.context"  # the scope's key of the RequestContext
MAX_AGENT_LENGTH = 200


class TokenKind(StrEnum):
    """What a caller has shown."""

    ACCESS = "access"  # somebody has signed in
    API = "api"  # a program


ACCESS_ONLY = (TokenKind.ACCESS,)
"""The `tokens` of an endpoint that makes or ends credentials: with a stolen API token no longer-lived one is made."""


class Caller(NamedTuple):
    """A person with a valid token. `token`: the id of the sign-in, or of the API token."""

    person: str
    name: str
    kind: TokenKind
    scopes: frozenset[Scope]
    token: str


class RequestContext(NamedTuple):
    """What a handler gets beside query and body: the caller, if there is one, with address and agent."""

    caller: Caller | None
    address: str  # IPv4, or the network of an IPv6 address
    agent: str  # User-Agent, one line of at most MAX_AGENT_LENGTH characters

    @property
    def known_caller(self) -> Caller:
        """The caller, at an endpoint with a scope."""
        if self.caller is None:
            raise TypeError("an endpoint without a scope does not know its caller")
        return self.caller

    @property
    def person(self) -> str:
        """The id of the person, at an endpoint with a scope."""
        return self.known_caller.person


class Authenticator(Protocol):
    """Knows the person behind a bearer token. Every method raises Unauthenticated for a token that is not valid."""

    def cached(self, token: str) -> Caller | None:
        """Return the caller without waiting, None if that needs a wait."""

    async def caller(self, token: str) -> Caller:
        """Return the caller. Raises Unavailable where the token cannot be checked."""


def bearer_token(authorization: bytes) -> str | None:
    """Return the token of an Authorization header (RFC 6750), None for any other scheme.

    Other schemes are left to proxies: one with a password of its own passes its header on.
    """
    return authorization[len(BEARER) :].strip().decode("latin-1") if authorization[:7].lower() == BEARER else None
