"""`/v1/stream`: server-sent events."""

from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

from services.api.courses_query import checked_params
from services.api.streams import cursor
from services.api.streams.admission import ConnectionLimiter
from services.api.streams.broadcaster import Broadcaster
from services.api.streams.channels import ChannelRegistry, check_interval
from services.api.streams.client import StreamClient
from services.api.streams.encoders import SSE, SSE_UNCHUNKED
from services.api.streams.encoding import http_chunk
from services.api.streams.schemas import StreamQuestion
from services.core.errors import BadRequest
from services.web import Headers

RETRY_FIELD = (
    b"retry: 3000\n"  # a block of its own is an empty event to some clients, and so is a comment: no empty line
)
HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Origin"),
]


class SseEndpoint:
    """All clients of the event stream."""

    def __init__(self, fan: Broadcaster, channels: ChannelRegistry, doors: ConnectionLimiter) -> None:
        self._broadcaster, self._channels, self._limiter = fan, channels, doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client, from its coming to its going. Raises KursError before anything is sent."""
        if scope["type"] != "http":
            raise BadRequest(f"{scope['path']} tells server-sent events: open WebSockets at /ws/chart-data")
        words = checked_params(scope["query_string"], StreamQuestion)
        channels = await self._channels.resolve_all(words.get("channels", ()))
        seconds = parse_timer(words)
        last = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
        after = cursor.parse(last or cursor.from_query(scope["query_string"]), channels, self._broadcaster.market)
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


def parse_timer(params: Mapping[str, list[str]]) -> float | None:
    """The client's own interval in seconds; 0: each change; None: each channel's own. Raises BadRequest, BadRange."""
    values = params.get("timer", ())
    if not values:
        return None
    try:
        return check_interval(float(values[0]))
    except ValueError:
        raise BadRequest(f"timer: {values[0][:40]!r} is not a number of seconds: write timer=5") from None
