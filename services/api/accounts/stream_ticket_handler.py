"""`POST /v1/stream/tickets`: tickets of live streams."""

from services.api.accounts import schemas
from services.api.accounts.stream_tickets import TICKET_SECONDS
from services.api.components import ApiComponents
from services.core.accounts.scopes import Scope
from services.web import Content, Endpoint, NoQuery, RequestContext
from services.web.quota_policies import TICKETS

NEW_TICKET = Endpoint(
    path="/v1/stream/tickets",
    limit=TICKETS,
    query=NoQuery,
    method="POST",
    status=201,
    response=schemas.StreamTicket,
    scope=Scope.READ,
    tag="accounts",
    operation_id="new_stream_ticket",
    summary="Get a ticket for a live stream",
    description="For clients that cannot send headers, as `EventSource` and `WebSocket` in browsers. It opens one "
    "stream, once, within 30 s: `/v1/stream?channels=…&ticket=…`, `/ws/chart-data?ticket=…`.",
)


class StreamTicketHandler:
    """Tickets of live streams."""

    def __init__(self, parts: ApiComponents) -> None:
        self._tickets = parts.accounts.tickets

    @NEW_TICKET.handler
    async def new_ticket(self, _query: NoQuery, context: RequestContext) -> Content:
        """Return a ticket for the caller. Raises Unavailable."""
        ticket = await self._tickets.issue(context.known_caller)
        body = schemas.StreamTicket(ticket=ticket, expires_in=TICKET_SECONDS)
        return Content(body.model_dump_json().encode())
