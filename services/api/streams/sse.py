"""`/v1/stream`: server-sent events."""

from starlette.types import Receive, Scope, Send

from services.api.components import ApiComponents
from services.api.streams import cursor
from services.api.streams.channel_access import check_access
from services.api.streams.channels import check_interval
from services.api.streams.encoders import SSE, SSE_UNCHUNKED, http_chunk
from services.api.streams.schemas import EVENTS, StreamQuery
from services.core.errors import BadRequest
from services.web import Headers, StreamEndpoint, parse_query
from services.web.quota_policies import STREAMS

RETRY_FIELD = b"retry: 3000\n"  # ms; no empty line after it, because some clients take such a block for an empty event
HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Origin"),
]


STREAM = StreamEndpoint(
    path="/v1/stream",
    limit=STREAMS,
    query=StreamQuery,
    media={"text/event-stream": EVENTS},
    tag="streams",
    operation_id="stream",
    summary="Live events",
    description="Server-sent events: first a snapshot, then each change. `Last-Event-ID` resumes without a gap or a "
    "repeat; where that is not possible any more an event `reset` says so.",
)


class SseEndpoint:
    """All clients of the event stream."""

    def __init__(self, parts: ApiComponents) -> None:
        self._streams, self._market = parts.streams, parts.deps.hub.market
        self._tickets = parts.accounts.tickets

    @STREAM.handler
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client until its connection ends. Raises KursError before anything is sent."""
        if scope["type"] != "http":
            raise BadRequest(f"{scope['path']} serves server-sent events: open WebSockets at /ws/chart-data")
        query = parse_query(StreamQuery, scope["query_string"])
        channels, interval = await self._streams.resolver.resolve_all(query.channels), check_interval(query.timer)
        last_id = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
        positions = cursor.parse(last_id or query.after, channels, self._market)
        caller = await self._tickets.caller(query.ticket, scope)
        check_access(channels, caller)
        with self._streams.connections.admit(scope) as writer:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
                return
            chunked = scope["http_version"] != "1.0"
            with self._streams.broadcaster.connect(writer, SSE if chunked else SSE_UNCHUNKED, caller) as client:
                client.send(http_chunk(RETRY_FIELD) if chunked else RETRY_FIELD)
                await client.subscribe(channels, positions, interval)
                await self._streams.demand.request(channels)
                while (await receive())["type"] != "http.disconnect":
                    pass
