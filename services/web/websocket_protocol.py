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

from services.core.exchange import Limit
from services.core.rate_limit import Window
from services.web.direct_writer import TOO_MANY, TOO_SLOW, WIRE
from services.web.edge import Edge
from services.web.http_protocol import CLOSE, REQUEST_SECONDS, SLICE
from services.web.stalled_client import Unread

FRAMES = Limit(100, 10)  # of one client of a stream, control frames and the parts of a message included
OTHER_FRAMES = Limit(1_000, 10)  # of the simulator, which has limits of its own
FLOOD = f"more than {FRAMES.most} messages in {FRAMES.seconds:.0f} s"
FAREWELL_SECONDS = 1  # in which a closing frame is read


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection. Each of its frames counts, whoever answers it: uvicorn itself answers pings."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._edge = self.app if isinstance(self.app, Edge) else None
        self._frames = Window(OTHER_FRAMES)
        self._rest = b""  # was read, but is not to be parsed yet
        self._is_cut = False
        self._unread = Unread()
        self._opening: TimerHandle
        if self._edge:
            self.conn.reject = partial(_rejected, self._edge, self.default_headers)  # type: ignore[method-assign]

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """The handshake has to come to its end."""
        super().connection_made(transport)
        self._opening = self.loop.call_later(REQUEST_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._unread.end()
        self._opening.cancel()
        self._rest = b""
        super().connection_lost(exc)
        self.conn.parser.close()  # it knows its connection: a circle

    def data_received(self, data: bytes) -> None:
        """Parse it, as far as the client has read what it was sent."""
        self._rest = self._rest + data if self._rest else data
        self._read_on()

    def _read_on(self) -> None:
        while self._rest and self.writable.is_set() and not self._is_cut and not self.transport.is_closing():
            piece, self._rest = self._rest[:SLICE], self._rest[SLICE:]
            super().data_received(piece)
        if self._is_cut:
            self._rest = b""  # it is read and forgotten: a connection that is closed over unread data is reset
        elif not self.writable.is_set():
            self.transport.pause_reading()

    def handle_connect(self, event: Request) -> None:
        """Also tells the app of its transport."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][WIRE] = self.transport  # type: ignore[assignment]
            if self._edge and self._edge.is_stream(self.scope):  # type: ignore[arg-type]
                self._frames = Window(FRAMES)

    def handle_events(self) -> None:
        """Count what has come before any of it is handled."""
        now = self.loop.time()
        for event in self.conn.events:
            if isinstance(event, Frame) and self._frames.full(now):
                self._cut(TOO_MANY, FLOOD)
                return
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        """A text that is none ends the connection, and is nothing that an operator could mend."""
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self._cut(1007, "this is no UTF-8")
            return
        super().send_receive_event_to_app()

    def pause_writing(self) -> None:
        """It reads more slowly than it is told: until it has read, nothing is read of it."""
        super().pause_writing()
        self.transport.pause_reading()
        self._unread.begin(self.transport, self.loop, self._stalled)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._unread.end()
        if self.transport.is_closing():
            return
        if not self.read_paused:
            self.transport.resume_reading()
        self.loop.call_soon(self._read_on)

    async def send(self, message: ASGISendEvent) -> None:
        """A refusal ends a handshake too."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._opening.cancel()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def _stalled(self) -> None:
        self._cut(TOO_SLOW, "nothing was read for too long: connect again")

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
        self.close_timer = self.loop.call_later(FAREWELL_SECONDS, self.transport.abort)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _rejected(edge: Edge, more: Iterable[tuple[bytes, bytes]], status: int, text: str) -> Response:
    """What the WebSockets' library refuses, in the shape of all other answers."""
    answer = edge.unreadable(HTTPStatus(status), text.partition("\n")[0])
    headers = Headers((name.decode(), value.decode()) for name, value in (*more, *answer.headers, CLOSE))
    return Response(answer.status, HTTPStatus(answer.status).phrase, headers, answer.body)
