"""uvicorn's WebSocket protocol, with bounds to what one client costs."""

from asyncio import TimerHandle, Transport
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.protocol import State

from services.core.exchange import RateLimit
from services.core.rate_limit import SlidingWindow
from services.web.direct_writer import CLOSE_TOO_MANY, CLOSE_TOO_SLOW, TRANSPORT_EXTENSION
from services.web.edge import EdgeMiddleware
from services.web.http_protocol import CLOSE_HEADER, PARSE_CHUNK_BYTES, REQUEST_TIMEOUT_SECONDS
from services.web.stalled_client import StalledClientTimer

STREAM_FRAME_LIMIT = RateLimit(100, 10)  # of one client of a stream, control frames and the parts of a message included
SIMULATOR_FRAME_LIMIT = RateLimit(1_000, 10)  # of the simulator, which has limits of its own
TOO_MANY_REASON = f"more than {STREAM_FRAME_LIMIT.max_count} messages in {STREAM_FRAME_LIMIT.seconds:.0f} s"
CLOSE_TIMEOUT_SECONDS = 1  # in which a closing frame is read


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection. Each of its frames counts, whoever answers it: uvicorn itself answers pings."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._edge = self.app if isinstance(self.app, EdgeMiddleware) else None
        self._frame_window = SlidingWindow(SIMULATOR_FRAME_LIMIT)
        self._unparsed = b""  # was read, but is not to be parsed yet
        self._is_cut = False
        self._stall_timer = StalledClientTimer()
        self._handshake_timer: TimerHandle
        if self._edge:
            self.conn.reject = partial(_rejection, self._edge, self.default_headers)  # type: ignore[method-assign]

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """The handshake has to come to its end."""
        super().connection_made(transport)
        self._handshake_timer = self.loop.call_later(REQUEST_TIMEOUT_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stall_timer.stop()
        self._handshake_timer.cancel()
        self._unparsed = b""
        super().connection_lost(exc)
        self.conn.parser.close()  # it knows its connection: a circle

    def data_received(self, data: bytes) -> None:
        """Parse it, as far as the client has read what it was sent."""
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._parse_pending()

    def _parse_pending(self) -> None:
        while self._unparsed and self.writable.is_set() and not self._is_cut and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:PARSE_CHUNK_BYTES], self._unparsed[PARSE_CHUNK_BYTES:]
            super().data_received(piece)
        if self._is_cut:
            self._unparsed = b""  # it is read and forgotten: a connection that is closed over unread data is reset
        elif not self.writable.is_set():
            self.transport.pause_reading()

    def handle_connect(self, event: Request) -> None:
        """Also tells the app of its transport."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][TRANSPORT_EXTENSION] = self.transport  # type: ignore[assignment]
            if self._edge and self._edge.is_stream(self.scope):  # type: ignore[arg-type]
                self._frame_window = SlidingWindow(STREAM_FRAME_LIMIT)

    def handle_events(self) -> None:
        """Count what has come before any of it is handled."""
        now = self.loop.time()
        for event in self.conn.events:
            if isinstance(event, Frame) and self._frame_window.record_and_check(now):
                self._cut(CLOSE_TOO_MANY, TOO_MANY_REASON)
                return
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        """A text that is none ends the connection, and is nothing that an operator could mend."""
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self._cut(1007, "this is no UTF-8")
            return
        super().send_receive_event_to_app()

    def pause_writing(self) -> None:
        """It reads more slowly than it is told: until it has read, nothing is read of it."""
        super().pause_writing()
        self.transport.pause_reading()
        self._stall_timer.start(self.transport, self.loop, self._on_stall)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._stall_timer.stop()
        if self.transport.is_closing():
            return
        if not self.read_paused:
            self.transport.resume_reading()
        self.loop.call_soon(self._parse_pending)

    async def send(self, message: ASGISendEvent) -> None:
        """A refusal ends a handshake too."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._handshake_timer.cancel()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def _on_stall(self) -> None:
        self._cut(CLOSE_TOO_SLOW, "nothing was read for too long: connect again")

    def _cut(self, code: int, reason: str) -> None:
        """Close it, and hang up soon even if nobody listens."""
        self._is_cut = True
        if self.close_sent or self.conn.state is not State.OPEN:
            self.transport.abort()
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_TIMEOUT_SECONDS, self.transport.abort)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _rejection(edge: EdgeMiddleware, more: Iterable[tuple[bytes, bytes]], status: int, text: str) -> Response:
    """What the WebSockets' library refuses, in the shape of all other answers."""
    answer = edge.unreadable_response(HTTPStatus(status), text.partition("\n")[0])
    headers = Headers((name.decode(), value.decode()) for name, value in (*more, *answer.headers, CLOSE_HEADER))
    return Response(answer.status, HTTPStatus(answer.status).phrase, headers, answer.body)
