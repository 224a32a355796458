"""`/v1/stream`: server-sent events."""

from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

from services.api.courses_query import asked_of
from services.api.streams import cursor
from services.api.streams.admission import Doors
from services.api.streams.broadcaster import Fan
from services.api.streams.channels import Channels, interval
from services.api.streams.client import Client
from services.api.streams.encoders import EVENTS, OLD_EVENTS
from services.api.streams.encoding import chunk
from services.api.streams.schemas import StreamQuestion
from services.core.errors import BadRequest
from services.web import Headers

RETRY = b"retry: 3000\n"  # a block of its own is an empty event to some clients, and so is a comment: no empty line
HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Origin"),
]


class Streams:
    """All clients of the event stream."""

    def __init__(self, fan: Fan, channels: Channels, doors: Doors) -> None:
        self._fan, self._channels, self._doors = fan, channels, doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client, from its coming to its going. Raises KursError before anything is sent."""
        if scope["type"] != "http":
            raise BadRequest(f"{scope['path']} tells server-sent events: open WebSockets at /ws/chart-data")
        words = asked_of(scope["query_string"], StreamQuestion)
        channels = await self._channels.all(words.get("channels", ()))
        seconds = timer(words)
        last = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
        after = cursor.parsed(last or cursor.asked(scope["query_string"]), channels, self._fan.market)
        with self._doors.entered(scope) as wire:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
                return
            chunked = scope["http_version"] != "1.0"
            client = Client(self._fan, wire, EVENTS if chunked else OLD_EVENTS)
            try:
                client.say(chunk(RETRY) if chunked else RETRY)
                await client.follow(channels, after, seconds)
                await self._fan.wish(channels)
                while (await receive())["type"] != "http.disconnect":
                    pass
            finally:
                client.leave()


def timer(words: Mapping[str, list[str]]) -> float | None:
    """The client's own interval in seconds; 0: each change; None: each channel's own. Raises BadRequest, BadRange."""
    values = words.get("timer", ())
    if not values:
        return None
    try:
        return interval(float(values[0]))
    except ValueError:
        raise BadRequest(f"timer: {values[0][:40]!r} is not a number of seconds: write timer=5") from None
