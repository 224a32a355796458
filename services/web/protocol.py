"""uvicorn's protocols, with a way around their messages where these cost too much.

What the edge has ready is written at once: no task, no messages, a single write.
A request costs about 25 µs of a core on uvicorn, its task and messages included; this saves a quarter of that. Parsing,
keep-alive, pipelining and whatever has to wait remain uvicorn's.
"""

from collections.abc import Iterable
from http import HTTPStatus

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from services.web.edge import Edge
from services.web.site import Answer

WIRE = "kurs.wire"  # an extension of the scope: the transport, for those who stream to thousands


class Protocol(HttpToolsProtocol):
    """One HTTP connection. What it overrides is private in uvicorn: a test holds that it is still called."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        answer = app.at_once(cycle.scope) if isinstance(app, Edge) and not self.flow.write_paused else None  # type: ignore[arg-type]
        if answer is None:
            cycle.scope["extensions"] = {WIRE: self.transport}  # type: ignore[dict-item]
            super()._start_asgi_task(cycle, app)
            return
        closing = () if cycle.keep_alive else ((b"connection", b"close"),)
        self.transport.write(rendered(answer, (*cycle.default_headers, *closing)))
        cycle.response_started = cycle.response_complete = True
        if closing:
            self.transport.close()
        cycle.on_response()
        cycle.on_response = _nothing  # as uvicorn does: no circle that only the garbage collector could open


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def handle_connect(self, event: Request) -> None:
        """Also tells the app of its transport."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][WIRE] = self.transport  # type: ignore[assignment]


def _nothing() -> None:
    """What follows an answer that is over."""


def rendered(answer: Answer, more: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An answer as it goes over the wire."""
    lines = [STATUS_LINE[answer.status]]
    for name, value in (*more, *answer.headers):
        lines += (name, b": ", value, b"\r\n")
    lines += (b"\r\n", answer.body)
    return b"".join(lines)
