"""The outermost layer of every process: request ids, metrics, quotas, and answers kept ready before any routing.

Pure ASGI and free of whatever a request does not need: a framework's route costs ten times what a kept answer does.
"""

import itertools
import logging
import secrets
import time
from collections.abc import Iterable, Mapping
from functools import partial
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import KursError, NotFound
from services.core.exchange import RateLimit
from services.hub import Hub
from services.log import request_id
from services.log_throttle import ThrottledLog
from services.web.app_spec import AppSpec, Headers, RawResponse, StreamApp
from services.web.concurrency import ConcurrencyLimiter
from services.web.cors import CorsPolicy
from services.web.direct_writer import TRANSPORT_EXTENSION
from services.web.metrics import RequestHistogram
from services.web.problems import render_problem, render_unreadable

MAX_REQUEST_ID_LENGTH = 128
UNMETERED_PATHS = frozenset({"/livez", "/readyz", "/metrics"})  # a supervisor asks them
SIMULATOR_PREFIX = "/simulator/"  # a collector asks its played exchange
MAX_CONCURRENT_REQUESTS, MAX_QUEUED_REQUESTS = (
    4,
    100,
)  # requests of one client whose answers are being made, and that wait for that
QUEUE_SECONDS = 10  # how long one waits
SLOW_SECONDS = 1.0
CLOSE_INTERNAL_ERROR = 1011  # the closing code of a WebSocket for a fault of ours
LOG_RATE_LIMITS = {logging.WARNING: RateLimit(1, 1), logging.INFO: RateLimit(10, 1)}  # failures; rejected requests
MAX_LOGGED_PATH = 200  # characters
NOT_MODIFIED = HTTPStatus.NOT_MODIFIED
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
log = logging.getLogger(__name__)


class EdgeMiddleware:
    """Wraps an app. The site's ready answers need no routing."""

    def __init__(self, app: ASGIApp, site: AppSpec, hub: Hub, pages: CorsPolicy, requests: RequestHistogram) -> None:
        self._app, self._cors, self._requests = pages.wrap(app), pages, requests
        self._market = hub.market.encode()
        self._fronts, self._quota, self._streams, self._request_costs = (
            site.fronts,
            site.quota,
            site.streams,
            site.costs,
        )
        self._addresses, self._hosts = site.addresses, site.hosts
        self._concurrency = ConcurrencyLimiter(MAX_CONCURRENT_REQUESTS, MAX_QUEUED_REQUESTS, QUEUE_SECONDS)
        self._logs = {level: ThrottledLog(log, limit) for level, limit in LOG_RATE_LIMITS.items()}
        self._id_prefix, self._id_counter = f"{secrets.token_hex(6)}-".encode(), itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif answer := self.fast_response(scope):
            await _send(answer, send)
        else:
            await self._dispatch(scope, receive, send)

    def fast_response(self, scope: Scope) -> RawResponse | None:
        """The whole answer to a request that needs no routing, else None. Raises nothing."""
        path, method = scope["path"], scope["method"]
        front = self._fronts.get(path)
        if front is None or (method != "GET" and method != "HEAD"):  # noqa: PLR1714  quicker than a look into a tuple
            return None
        started, asked = time.perf_counter(), dict(scope["headers"])
        ours, admission = self._common_headers(asked), None
        try:
            if self._quota is not None:
                admission = self._quota.charge(scope)
                ours += admission.headers
            self._hosts.check(scope, asked)
            answer = front(scope["query_string"], asked)
        except Exception as error:  # noqa: BLE001  it is logged
            answer = _error_response(error, scope, ours)
        if admission is not None and self._quota is not None and (answer is None or answer[0] == NOT_MODIFIED):
            self._quota.refund(admission)  # what the client has already costs nothing
        if answer is None:
            return None
        status, headers, body = answer
        if b"origin" in asked:
            ours += self._cors.headers(asked[b"origin"])
        self._finish(scope, ours, status, started)
        return RawResponse(status, headers + ours, body if method == "GET" else b"")

    def is_stream(self, scope: Scope) -> bool:
        """Whether the answer goes on as long as its client stays."""
        return scope["path"] in self._streams and scope.get("method", "GET") == "GET"

    def unreadable_response(self, status: HTTPStatus, detail: str) -> RawResponse:
        """What is answered to what is no request, or none that is read to its end."""
        ours = self._common_headers({})
        code, headers, body = render_unreadable(status, detail, _request_id(ours))
        self._finish({"path": "(not read)", "method": "?"}, ours, code, time.perf_counter())
        return RawResponse(code, [*headers, *ours], body)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer, unless the client has asked too often or waits for too much."""
        started, asked = time.perf_counter(), dict(scope["headers"])
        ours = self._common_headers(asked)
        page = () if scope["method"] == "OPTIONS" else self._cors.headers(asked.get(b"origin", b""))
        stream = self._streams.get(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        try:
            ours += self._charge(scope)
            self._hosts.check(scope, asked)
            if stream:
                status = await self._stream(stream, scope, receive, send, [*ours, *page])
                started = time.perf_counter()  # it was slow for no fault of ours
            elif _is_metered(scope):
                async with self._concurrency.slot(self._addresses.client_of(scope), partial(_has_disconnected, scope)):
                    status = await self._route(scope, receive, send, [*ours, *page])
            else:
                status = await self._route(scope, receive, send, [*ours, *page])
        except KursError as error:
            status, headers, body = _error_response(error, scope, ours)
            await _send(RawResponse(status, [*headers, *ours, *page], body), send)
        self._finish(scope, ours, status, started)

    def _charge(self, scope: Scope) -> Headers:
        """Charge for a request; answers the headers that tell the client its quota. Raises QuotaExceeded."""
        if self._quota is None or not _is_metered(scope):
            return []
        return self._quota.charge(scope, self._request_costs.get(scope["path"], 1)).headers

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket. One that is refused is answered as a request is."""
        started, asked, accepted = time.perf_counter(), dict(scope["headers"]), False
        ours = self._common_headers(asked)
        refused: Exception | None = None

        async def add(message: Message) -> None:
            nonlocal accepted, refused
            if message["type"] == "websocket.accept":
                accepted = True
                message["headers"] = [*message.get("headers", ()), *ours]
            if message["type"] == "websocket.close" and not accepted:
                refused = NotFound(f"no WebSocket is served at {scope['path'][:100]}")
            else:
                await send(message)

        try:
            ours += self._charge(scope)
            self._hosts.check(scope, asked)
            await self._streams.get(scope["path"], self._app)(scope, receive, add)
        except Exception as error:
            if not accepted:
                refused = error
            elif isinstance(error, OSError):  # it is gone
                raise
            else:
                log.exception("WebSocket %s failed", scope["path"], extra={"request_id": _request_id(ours)})
                await send(
                    {"type": "websocket.close", "code": CLOSE_INTERNAL_ERROR, "reason": "Kurs failed: connect again"}
                )
        if refused:
            status, headers, body = _error_response(refused, scope, ours)
            await send({"type": "websocket.http.response.start", "status": status, "headers": [*headers, *ours]})
            await send({"type": "websocket.http.response.body", "body": body})
            self._finish(scope, ours, status, started)

    async def _stream(self, stream: StreamApp, scope: Scope, receive: Receive, send: Send, ours: Headers) -> int:
        """An answer that goes on until its client goes; answers the status. Raises KursError before it begins."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await stream(scope, receive, add)
        return 200

    async def _route(self, scope: Scope, receive: Receive, send: Send, ours: Headers) -> int:
        """The app's answer, with our headers added; answers the status. To HEAD it is that to GET, without its body."""
        status, head, ended, answered = 500, scope["method"] == "HEAD", False, False

        async def add(message: Message) -> None:
            nonlocal status, ended, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*_with_vary(message.get("headers", ())), *ours]
            elif ended:  # of a stream, which hears that nobody listens
                return
            elif head:
                message, ended = {"type": "http.response.body"}, True
            await send(message)
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        token, asked = request_id.set(_request_id(ours)), {**scope, "method": "GET"} if head else scope
        try:
            await self._app(asked, receive, add)
        except Exception:
            if not answered or status != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # else the framework has answered and logged it, and raises it all the same
        finally:
            request_id.reset(token)
            scope["route"] = asked.get("route")
        return status

    def _common_headers(self, asked: Mapping[bytes, bytes]) -> Headers:
        """The request's id, the client's own if it is a sane one, and the market's name: on every answer."""
        given = asked.get(b"x-request-id")
        if given is None or len(given) > MAX_REQUEST_ID_LENGTH or not given.replace(b"-", b"").isalnum():
            given = self._id_prefix + b"%x" % next(self._id_counter)
        return [(b"x-request-id", given), (b"kurs-market", self._market)]

    def _finish(self, scope: Scope, ours: Headers, status: int, started: float) -> None:
        """Count the request, and log it if it was refused, failed or was slow."""
        path, method, seconds = scope["path"], scope.get("method", "GET"), time.perf_counter() - started
        route = path if path in self._fronts or path in self._streams else getattr(scope.get("route"), "path", "other")
        self._requests.observe((method if method in KNOWN_METHODS else "other", route, status), seconds)
        if status < HTTPStatus.BAD_REQUEST and seconds <= SLOW_SECONDS:
            return
        if path in UNMETERED_PATHS and status in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            return  # /readyz waits for servers, and 503 is what it has to say
        if status >= 500 or (seconds > SLOW_SECONDS and not route.startswith("/simulator")):
            self._log(logging.WARNING, scope, status, ours, seconds)
        elif status >= 400 and not path.startswith(SIMULATOR_PREFIX):  # which refuses as an exchange does
            self._log(logging.INFO, scope, status, ours, seconds)

    def _log(self, level: int, scope: Scope, status: int, ours: Headers, seconds: float) -> None:
        method, path = scope.get("method", "WebSocket"), scope["path"][:MAX_LOGGED_PATH]
        extra = {"request_id": _request_id(ours), "seconds": round(seconds, 3)}
        self._logs[level].log(level, "%s %s %d", method, path, status, extra=extra)


def _is_metered(scope: Scope) -> bool:
    """Whether a quota counts it. A preflight is the browser's own question."""
    path = scope["path"]
    return scope.get("method") != "OPTIONS" and path not in UNMETERED_PATHS and not path.startswith(SIMULATOR_PREFIX)


def _has_disconnected(scope: Scope) -> bool:
    """Whether the client has hung up, where that is known."""
    wire = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
    return wire is not None and bool(wire.is_closing())


def _request_id(ours: Headers) -> str:
    return ours[0][1].decode()


def _with_vary(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """An app's headers; what says nothing of it varies by origin, as everything does."""
    given = list(headers)
    return given if any(name == b"vary" for name, _ in given) else [*given, (b"vary", b"Origin")]


def _error_response(error: Exception, scope: Scope, ours: Headers) -> RawResponse:
    """An error as an answer; one that nobody foresaw goes to the log as well."""
    if not isinstance(error, KursError):
        extra = {"request_id": _request_id(ours)}
        log.error("%s %s failed", scope.get("method", "WebSocket"), scope["path"], exc_info=error, extra=extra)
    ours += getattr(error, "headers", ())
    return RawResponse(*render_problem(error, scope["path"], _request_id(ours)))


async def _send(answer: RawResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})
