"""Tickets of live streams: browsers cannot send headers with `EventSource` and WebSockets.

A ticket is in the address, and so in logs of proxies. It opens one stream, once, within seconds.
"""

import msgspec
from starlette.types import Scope as RequestScope

from services.account_changes import make_token
from services.core.accounts.token_format import TokenType, check_token, hash_token
from services.core.errors import Unauthenticated
from services.ports import Cache
from services.web import CONTEXT, Caller, RequestContext

TICKET_SECONDS = 30


class StreamTickets:
    """Tickets in the cache that all replicas share."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def issue(self, caller: Caller) -> str:
        """Return a ticket for a caller. Raises Unavailable."""
        ticket = make_token(TokenType.TICKET)
        await self._cache.set(_key(ticket), msgspec.json.encode(caller), TICKET_SECONDS)
        return ticket

    async def caller(self, ticket: str, scope: RequestScope) -> Caller | None:
        """Return the person that opens a stream: by its ticket, or without one by the token of the request.

        Raises Unauthenticated for a ticket that is not valid (any more), and Unavailable.
        """
        if not ticket:
            context: RequestContext = scope[CONTEXT]
            return context.caller
        body = await self._cache.take(_key(ticket)) if check_token(ticket) is TokenType.TICKET else None
        if body is None:
            raise Unauthenticated(
                f"the ticket is not valid: it opens one stream, within {TICKET_SECONDS} s; get another one at "
                "POST /v1/stream/tickets",
                presented=True,
            )
        return msgspec.json.decode(body, type=Caller)


def _key(ticket: str) -> str:
    return f"ticket:{hash_token(ticket)}"
