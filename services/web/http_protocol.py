"""uvicorn's HTTP protocol with a fast path around ASGI, and with limits to what a client costs.

A response that the edge has ready is written at once: no task, no ASGI messages, a single write. A request costs
about 25 µs of a core on uvicorn; this saves a quarter of that. Parsing, and responses that have to wait, remain
uvicorn's.

Requests are read no faster than the client reads its responses. A request has a maximum size, and
`REQUEST_TIMEOUT_SECONDS` to arrive. When a client disconnects, all work for it ends. A client that opens more
connections than a process can hold loses its oldest idle ones.
"""

import logging
from asyncio import TimerHandle, Transport
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from services.web.app_spec import RawResponse
from services.web.bodies import MAX_BODY_BYTES
from services.web.client_address import client_network
from services.web.connections import MAX_PLAIN_CONNECTIONS, connections_to_drop
from services.web.direct_writer import TRANSPORT_EXTENSION
from services.web.edge import EdgeMiddleware
from services.web.stalled_client import StalledClientTimer

PARSE_CHUNK_BYTES = 4096  # after which it is checked what they were
MAX_HEAD_BYTES = 32 * 1024  # nginx's limit
MAX_PIPELINED_BYTES = 64 * 1024  # behind a stream, which may be rejected, and then the next request is served
REQUEST_TIMEOUT_SECONDS = 10  # for a whole request to arrive
log = logging.getLogger(__name__)


class FastPathHttpProtocol(HttpToolsProtocol):
    """One HTTP connection. What it overrides is private in uvicorn: a test checks that it is still called."""

    def __init__(self, *args: Any, max_connections: int = MAX_PLAIN_CONNECTIONS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_connections = max_connections
        self._edge = self.app if isinstance(self.app, EdgeMiddleware) else None
        self._unparsed = b""  # received, and parsed later
        self._is_parsing = False
        self._last_complete_scope: object = None  # of the newest request that arrived as a whole
        self._counted_scope: object = None  # of the newest request that arrived in pieces
        self._received_bytes = 0  # of that request
        self._awaits_request = True  # what arrives next has to become a request in time
        self._deadline: TimerHandle | None = None
        self._active_cycle: RequestResponseCycle | None = None
        self._stall_timer = StalledClientTimer()
        self.opened_at = self.loop.time()

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT_SECONDS, self._on_deadline)
        if len(self.connections) > self._max_connections:
            self._drop_idle_connections()

    def _drop_idle_connections(self) -> None:
        going = connections_to_drop(each for each in self.connections if isinstance(each, FastPathHttpProtocol)) or [
            self
        ]
        for each in going:
            self.connections.discard(each)
            each.transport.abort()
        log.warning(
            "more than %d connections: %d of %s are closed", self._max_connections, len(going), going[0].client_key
        )

    @property
    def client_key(self) -> str:
        """The client's IPv4 address, or IPv6 network."""
        return client_network(self.client[0] if self.client else "")

    @property
    def is_idle(self) -> bool:
        """Whether no response is being sent, or the client does not read it."""
        return not self._is_responding() or self.flow.write_paused

    def connection_lost(self, exc: Exception | None) -> None:
        """End the work for all requests of the connection: uvicorn ends that for the last one."""
        cycles = [self._active_cycle, *(cycle for cycle, _ in self.pipeline)]
        self.pipeline.clear()
        self._unparsed = b""
        self._stop_timers()
        super().connection_lost(exc)
        for cycle in cycles:
            if cycle and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self._active_cycle = None

    def data_received(self, data: bytes) -> None:
        """Parse until a response has to be waited for."""
        self._unset_keepalive_if_required()
        if (
            self._active_cycle is None and not self._unparsed and len(data) <= PARSE_CHUNK_BYTES
        ):  # mostly a whole request
            self._parse(data)
            if self._active_cycle is None and self.scope is self._last_complete_scope and not self._deadline:
                if self.timeout_keep_alive_task or self.parser is None or self.transport.is_closing():
                    return
                self._awaits_request = True  # only an empty line arrived
        else:
            self._unparsed = self._unparsed + data if self._unparsed else data
        self._parse_pending()

    def _parse_pending(self) -> None:
        self._is_parsing = True
        while self._unparsed and not self.pipeline and not self._is_streaming() and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:PARSE_CHUNK_BYTES], self._unparsed[PARSE_CHUNK_BYTES:]
            self._parse(piece)
        self._is_parsing = False
        if self._is_streaming():
            if len(self._unparsed) > MAX_PIPELINED_BYTES:
                self._abort()
            self.flow.resume_reading()  # otherwise its disconnection would not be noticed
        elif self._unparsed:
            self.flow.pause_reading()
        if self._expects_request() != bool(self._deadline):
            self._restart_deadline()

    def _parse(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError:
            self._reject(HTTPStatus.BAD_REQUEST, "this is not an HTTP request")
        if self.scope is not self._last_complete_scope:
            self._count_bytes(len(piece))

    def _count_bytes(self, size: int) -> None:
        if self._counted_scope is not self.scope:
            self._counted_scope, self._received_bytes = self.scope, 0
        self._received_bytes += size
        head = self.cycle is None or self.cycle.scope is not self.scope
        if self._received_bytes > (MAX_HEAD_BYTES if head else MAX_BODY_BYTES):
            self._reject_too_long(head)

    def _reject_too_long(self, head: bool) -> None:
        if head:
            detail = f"path and headers are longer than {MAX_HEAD_BYTES} bytes"
            self._reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        else:
            self._reject(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {MAX_BODY_BYTES} bytes")

    def on_message_complete(self) -> None:
        """Note that a request arrived as a whole."""
        self._last_complete_scope, self._awaits_request = self.scope, False
        if self.cycle is None or not self.cycle.response_complete:
            super().on_message_complete()

    def _on_response_complete(self) -> None:
        """Parse what arrived behind the request."""
        self._active_cycle = None
        self.on_response_complete()
        if self._unparsed and not self._is_parsing and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.flow.pause_reading()
            self.loop.call_soon(self._parse_pending)

    def handle_websocket_upgrade(self) -> None:
        """Upgrade only what fits into a WebSocket's handshake, and not while a response is being sent."""
        lines = [self.url, *(name + value for name, value in self.headers)]
        if not self.url.isascii():
            self._reject(HTTPStatus.BAD_REQUEST, "a path is ASCII: write other characters as %xx")
        elif len(lines) > MAX_NUM_HEADERS or max(map(len, lines)) > MAX_LINE_LENGTH - 20:
            self._reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the handshake has too many or too long headers")
        elif self._is_responding():
            self._reject(HTTPStatus.BAD_REQUEST, "a WebSocket is opened on a connection of its own")
        elif self.scope["method"] != "GET" or _has_body(self.headers):
            self._reject(HTTPStatus.BAD_REQUEST, "a WebSocket is opened by GET, without a body")
        else:
            self._last_complete_scope, self._unparsed, self._awaits_request = self.scope, b"", False
            self._stop_timers()
            super().handle_websocket_upgrade()
            self.parser = None  # type: ignore[assignment]  # it refers to us: a reference cycle, as at the end of any other connection

    def pause_writing(self) -> None:
        """Start the timer of a client that reads slowly."""
        super().pause_writing()
        self._stall_timer.start(self.transport, self.loop, self._abort)

    def resume_writing(self) -> None:
        """Stop the timer of a client that has read."""
        super().resume_writing()
        self._stall_timer.stop()

    def _reject(self, status: HTTPStatus, detail: str) -> None:
        """Respond and close, after the responses to the requests before."""
        self._last_complete_scope, self._unparsed, self._awaits_request = self.scope, b"", False
        if self._is_responding():
            (self.pipeline[0][0] if self.pipeline else self._active_cycle or self.cycle).keep_alive = False
            self.flow.pause_reading()
            return
        if self._edge:
            response = self._edge.unreadable_response(status, detail)
            self.transport.write(to_wire(response, (*self.server_state.default_headers, CLOSE_HEADER)))
        self.transport.close()

    def _is_responding(self) -> bool:
        return self._active_cycle is not None and not self._active_cycle.response_complete

    def _is_streaming(self) -> bool:
        running = self._active_cycle
        return running is not None and self._edge is not None and self._edge.is_stream(running.scope)  # type: ignore[arg-type]

    def _expects_request(self) -> bool:
        """Whether a request has to arrive: one has begun, or there was none yet."""
        return self.scope is not self._last_complete_scope or self._awaits_request

    def _restart_deadline(self) -> None:
        """Start the time limit if a request has to arrive."""
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
        if self._expects_request():
            self._deadline = self.loop.call_later(REQUEST_TIMEOUT_SECONDS, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        if not self._is_responding():
            self._reject(HTTPStatus.REQUEST_TIMEOUT, f"no whole request arrived within {REQUEST_TIMEOUT_SECONDS} s")
        elif self.cycle.scope is self.scope and self.cycle.more_body and not self.flow.read_paused:
            self._abort()  # its handler waits for the body
        else:
            self._restart_deadline()  # it may have arrived, and was not read

    def _stop_timers(self) -> None:
        self._stall_timer.stop()
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self) -> None:
        self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        response = None
        if isinstance(app, EdgeMiddleware) and not self.flow.write_paused:
            response = app.fast_response(cycle.scope)  # type: ignore[arg-type]
        if response is None:
            self._active_cycle, cycle.on_response = cycle, self._on_response_complete
            cycle.scope["extensions"] = {TRANSPORT_EXTENSION: self.transport}  # type: ignore[dict-item]
            super()._start_asgi_task(
                cycle, app if cycle.scope["http_version"] != "1.0" else _without_chunking(app, cycle)
            )
            return
        closing = () if cycle.keep_alive else (CLOSE_HEADER,)
        self.transport.write(to_wire(response, (*cycle.default_headers, *closing)))
        cycle.response_started = cycle.response_complete = True
        if closing:
            self.transport.close()
        cycle.on_response()
        cycle.on_response = _noop  # as uvicorn does, to leave no reference cycle


CLOSE_HEADER = (b"connection", b"close")


def _without_chunking(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Return the app for HTTP/1.0, where a response without a length ends with the connection, not with a chunk."""

    async def unchunked(scope: Any, receive: Any, send: Any) -> None:
        async def plain(message: Any) -> None:
            if message["type"] == "http.response.start":
                unknown = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
                cycle.chunked_encoding = False if unknown else None
            elif cycle.chunked_encoding is False:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, plain)

    return unchunked


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0") for name, value in headers
    )


def _noop() -> None:
    """Do nothing after a response that is complete."""


def to_wire(response: RawResponse, more: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a response as bytes of HTTP/1.1."""
    lines = [STATUS_LINE[response.status]]
    for name, value in (*more, *response.headers):
        lines += (name, b": ", value, b"\r\n")
    lines += (b"\r\n", response.body)
    return b"".join(lines)
