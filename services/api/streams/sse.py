"""`/v1/stream`: server-sent events."""

from starlette.types import Receive, Scope, Send

from services.api.components import ApiComponents
from services.api.streams import cursor
from services.api.streams.channels import check_interval
from services.api.streams.client import StreamClient
from services.api.streams.encoders import SSE, SSE_UNCHUNKED
from services.api.streams.encoding import http_chunk
from services.api.streams.schemas import EVENTS, StreamQuery
from services.core.errors import BadRequest
from services.web import Headers, StreamEndpoint, parse_query

RETRY_FIELD = (
    b"retry: 3000\n"  # a block of its own is an empty event to some clients, and so is a comment: no empty line
)
HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Origin"),
]


STREAM = StreamEndpoint(
    path="/v1/stream",
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
        self._broadcaster, self._channels, self._limiter = parts.broadcaster, parts.channels, parts.connections

    @STREAM.handler
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client, from its coming to its going. Raises KursError before anything is sent."""
        if scope["type"] != "http":
            raise BadRequest(f"{scope['path']} tells server-sent events: open WebSockets at /ws/chart-data")
        query = parse_query(StreamQuery, scope["query_string"])
        channels, seconds = await self._channels.resolve_all(query.channels), check_interval(query.timer)
        last = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
        after = cursor.parse(last or query.after, channels, self._broadcaster.market)
        with self._limiter.admit(scope) as wire:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
                return
            chunked = scope["http_version"] != "1.0"
            client = StreamClient(self._broadcaster, wire, SSE if chunked else SSE_UNCHUNKED)
            try:
                client.send(http_chunk(RETRY_FIELD) if chunked else RETRY_FIELD)
                await client.subscribe(channels, after, seconds)
                await self._broadcaster.request_indicators(channels)
                while (await receive())["type"] != "http.disconnect":
                    pass
            finally:
                client.close()
