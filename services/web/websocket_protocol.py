"""uvicorn's WebSocket protocol, with limits to what a client costs."""

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

STREAM_FRAME_LIMIT = RateLimit(100, 10)  # of one client of a stream; control frames and parts of a message count
SIMULATOR_FRAME_LIMIT = RateLimit(1_000, 10)  # the simulated exchanges have limits of their own
TOO_MANY_REASON = f"more than {STREAM_FRAME_LIMIT.max_count} messages in {STREAM_FRAME_LIMIT.seconds:.0f} s"
CLOSE_TIMEOUT_SECONDS = 1  # for the client to read the closing frame


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection. Each of its frames counts, also pings, to which uvicorn itself responds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._edge = self.app if isinstance(self.app, EdgeMiddleware) else None
        self._frame_window = SlidingWindow(SIMULATOR_FRAME_LIMIT)
        self._unparsed = b""  # received, and parsed later
        self._is_cut = False
        self._stall_timer = StalledClientTimer()
        self._handshake_timer: TimerHandle
        if self._edge:
            self.conn.reject = partial(_rejection, self._edge, self.default_headers)  # type: ignore[method-assign]

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the time limit of the handshake."""
        super().connection_made(transport)
        self._handshake_timer = self.loop.call_later(REQUEST_TIMEOUT_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stall_timer.stop()
        self._handshake_timer.cancel()
        self._unparsed = b""
        super().connection_lost(exc)
        self.conn.parser.close()  # it refers to its connection: a reference cycle

    def data_received(self, data: bytes) -> None:
        """Parse while the client reads what it is sent."""
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._parse_pending()

    def _parse_pending(self) -> None:
        while self._unparsed and self.writable.is_set() and not self._is_cut and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:PARSE_CHUNK_BYTES], self._unparsed[PARSE_CHUNK_BYTES:]
            super().data_received(piece)
        if self._is_cut:
            self._unparsed = b""  # read and dropped: closing a connection with unread data would reset it
        elif not self.writable.is_set():
            self.transport.pause_reading()

    def handle_connect(self, event: Request) -> None:
        """Put the transport into the scope."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][TRANSPORT_EXTENSION] = self.transport  # type: ignore[assignment]
            if self._edge and self._edge.is_stream(self.scope):  # type: ignore[arg-type]
                self._frame_window = SlidingWindow(STREAM_FRAME_LIMIT)

    def handle_events(self) -> None:
        """Count frames before any of them is handled."""
        now = self.loop.time()
        for event in self.conn.events:
            if isinstance(event, Frame) and self._frame_window.record_and_check(now):
                self._cut(CLOSE_TOO_MANY, TOO_MANY_REASON)
                return
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        """End the connection for a text that is not UTF-8, without a log line: no operator can fix it."""
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self._cut(1007, "this is not UTF-8")
            return
        super().send_receive_event_to_app()

    def pause_writing(self) -> None:
        """Read nothing from a client that reads too slowly."""
        super().pause_writing()
        self.transport.pause_reading()
        self._stall_timer.start(self.transport, self.loop, self._on_stall)

    def resume_writing(self) -> None:
        """Read from a client that has read."""
        super().resume_writing()
        self._stall_timer.stop()
        if self.transport.is_closing():
            return
        if not self.read_paused:
            self.transport.resume_reading()
        self.loop.call_soon(self._parse_pending)

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message; a rejection ends the handshake too."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._handshake_timer.cancel()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def _on_stall(self) -> None:
        self._cut(CLOSE_TOO_SLOW, "nothing was read for too long: connect again")

    def _cut(self, code: int, reason: str) -> None:
        """Close the connection, soon even if the client does not respond."""
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
    """Return a rejection by the WebSocket library in the form of all other errors."""
    response = edge.unreadable_response(HTTPStatus(status), text.partition("\n")[0])
    headers = Headers((name.decode(), value.decode()) for name, value in (*more, *response.headers, CLOSE_HEADER))
    return Response(response.status, HTTPStatus(response.status).phrase, headers, response.body)
