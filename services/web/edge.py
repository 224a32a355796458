"""The outermost layer of every process: request ids, quotas, metrics, logs, and responses that need no routing.

Pure ASGI. A route of FastAPI costs ten times what a cached response does, so cached ones are sent from here.
"""

import itertools
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.bounds import clean_text
from services.core.errors import KursError, NotFound, Unauthenticated, Unavailable
from services.core.exchange import RateLimit
from services.hub import Hub
from services.log import request_id
from services.log_throttle import ThrottledLog
from services.web.app_spec import AppSpec, Charge, Headers, RawResponse
from services.web.callers import CONTEXT, MAX_AGENT_LENGTH, Authenticator, Caller, RequestContext, bearer_token
from services.web.concurrency import ConcurrencyLimiter
from services.web.direct_writer import TRANSPORT_EXTENSION
from services.web.endpoint import StreamEndpoint
from services.web.endpoint_server import EndpointServer
from services.web.metrics import RequestHistogram
from services.web.problems import render_problem, render_unreadable
from services.web.request_quotas import SIMULATOR_PREFIX, UNMETERED_PATHS, Price, RequestQuotas, is_metered

MAX_REQUEST_ID_LENGTH = 128
MAX_CONCURRENT_REQUESTS, MAX_QUEUED_REQUESTS = 4, 100  # of one client
QUEUE_SECONDS = 10
SLOW_SECONDS = 1.0
CLOSE_INTERNAL_ERROR = 1011  # the closing code of a WebSocket
LOG_RATE_LIMITS = {logging.WARNING: RateLimit(1, 1), logging.INFO: RateLimit(10, 1)}  # failures; rejected requests
MAX_LOGGED_PATH = 200  # characters
NOT_MODIFIED = HTTPStatus.NOT_MODIFIED
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
Ready: TypeAlias = Callable[[bytes, Mapping[bytes, bytes]], RawResponse | None]
log = logging.getLogger(__name__)


class EdgeMiddleware:
    """Wraps an app. `servers`: the endpoints whose cached responses need no routing."""

    def __init__(self, app: ASGIApp, spec: AppSpec, hub: Hub, servers: Sequence[EndpointServer] = ()) -> None:
        self._app, self._cors, self._hosts = spec.cors.wrap(app), spec.cors, spec.hosts
        self._addresses, self._streams = spec.addresses, spec.streams
        self._authenticator = spec.authenticator
        streams = [each.endpoint for each in spec.endpoints if isinstance(each.endpoint, StreamEndpoint)]
        self._quotas = RequestQuotas([*streams, *(each.endpoint for each in servers)], spec.limiter, spec.addresses)
        self._ready: dict[str, tuple[Ready, Price | None]] = {}
        for server in servers:
            endpoint = server.endpoint
            price = Price(endpoint.policy, 1) if self._quotas.has_limit(endpoint.policy) else None
            self._ready |= dict.fromkeys(endpoint.paths if endpoint.is_public else (), (server.ready, price))
        self.histogram = RequestHistogram()
        self._market = hub.market.encode()
        self._concurrency = ConcurrencyLimiter(MAX_CONCURRENT_REQUESTS, MAX_QUEUED_REQUESTS, QUEUE_SECONDS)
        self._logs = {level: ThrottledLog(log, limit) for level, limit in LOG_RATE_LIMITS.items()}
        self._id_prefix, self._id_counter = f"{secrets.token_hex(6)}-".encode(), itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif response := self.fast_response(scope):
            await _send(response, send)
        else:
            await self._dispatch(scope, receive, send)

    def fast_response(self, scope: Scope) -> RawResponse | None:
        """Return the whole response if it needs no routing. Raises nothing."""
        path, method = scope["path"], scope["method"]
        entry = self._ready.get(path)
        if entry is None or (method != "GET" and method != "HEAD"):  # noqa: PLR1714  quicker than a look into a tuple
            return None
        started, request_headers, (ready, price) = time.perf_counter(), dict(scope["headers"]), entry
        added, charge = self._common_headers(request_headers), None
        try:
            if b"authorization" in request_headers and not self._identify_at_once(scope, request_headers):
                return None
            if price is not None:
                charge = self._quotas.charge(scope, price)
            self._hosts.check(scope, request_headers)
            response = ready(scope["query_string"], request_headers)
        except Exception as error:  # noqa: BLE001  it is logged
            response = _error_response(error, scope, _request_id(added))
        if response is None:
            if charge is not None:
                charge.refund()
            return None
        status, headers, body = response
        if charge is not None:
            if status == NOT_MODIFIED:
                charge.refund()  # what the client has already costs nothing
            added += charge.headers()
        if b"origin" in request_headers:
            added += self._cors.headers(request_headers[b"origin"])
        self._finish(scope, added, status, started)
        return RawResponse(status, headers + added, body if method == "GET" else b"")

    def is_stream(self, scope: Scope) -> bool:
        """Whether the response goes on until its client leaves."""
        return scope["path"] in self._streams and scope.get("method", "GET") == "GET"

    def unreadable_response(self, status: HTTPStatus, detail: str) -> RawResponse:
        """Return the response to bytes that are no request, or to a request that is not read to its end."""
        added = self._common_headers({})
        code, headers, body = render_unreadable(status, detail, _request_id(added))
        self._finish({"path": "(not read)", "method": "?"}, added, code, time.perf_counter())
        return RawResponse(code, [*headers, *added], body)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a stream or the app respond, unless the client exceeds a limit."""
        started, request_headers = time.perf_counter(), dict(scope["headers"])
        added = self._common_headers(request_headers)
        if scope["method"] != "OPTIONS":
            added += self._cors.headers(request_headers.get(b"origin", b""))
        stream = self._streams.get(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        charge = None
        try:
            charge = await self._admit(scope, request_headers)
            if stream:
                await self._stream(stream, scope, receive, _adding(send, added + _quota_headers(charge)))
                status, started = 200, time.perf_counter()  # its length says nothing about our speed
            else:
                async with self._turn(scope):
                    status = await self._route(scope, receive, _charging(send, charge, request_headers), added)
        except KursError as error:
            status, headers, body = _error_response(error, scope, _request_id(added))
            added += [] if error.headers else _quota_headers(charge)
            await _send(RawResponse(status, headers + added, body), send)
        if charge is not None and not _is_failure(status):
            await charge.forgive()
        self._finish(scope, added, status, started)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket. One that is rejected gets an HTTP response."""
        started, request_headers, accepted = time.perf_counter(), dict(scope["headers"]), False
        added = self._common_headers(request_headers)
        rejection: Exception | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal accepted, rejection
            if message["type"] == "websocket.accept":
                accepted = True
                message["headers"] = [*message.get("headers", ()), *added]
            if message["type"] == "websocket.close" and not accepted:
                rejection = NotFound(f"no WebSocket is served at {scope['path'][:100]}")
            else:
                await send(message)

        try:
            added += _quota_headers(await self._admit(scope, request_headers))
            await self._stream(self._streams.get(scope["path"], self._app), scope, receive, send_with_headers)
        except Exception as error:
            if not accepted:
                rejection = error
            elif isinstance(error, OSError):  # the connection is gone
                raise
            else:
                log.exception("WebSocket %s failed", scope["path"], extra={"request_id": _request_id(added)})
                reason = "Kurs failed: connect again"
                await send({"type": "websocket.close", "code": CLOSE_INTERNAL_ERROR, "reason": reason})
        if rejection:
            status, headers, body = _error_response(rejection, scope, _request_id(added))
            await send({"type": "websocket.http.response.start", "status": status, "headers": headers + added})
            await send({"type": "websocket.http.response.body", "body": body})
            self._finish(scope, added, status, started)

    async def _stream(self, stream: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a stream respond. Raises KursError; one whose ticket is not valid is charged to its address."""
        try:
            await stream(scope, receive, send)
        except Unauthenticated as error:
            error.headers = _quota_headers(self._quotas.charge_unauthenticated(scope))
            raise

    async def _route(self, scope: Scope, receive: Receive, send: Send, added: Headers) -> int:
        """Send the app's response with our headers, and return its status. HEAD gets that of GET without its body."""
        status, is_head, is_sent, is_complete = 500, scope["method"] == "HEAD", False, False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, is_sent, is_complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*_with_vary(message.get("headers", ())), *added]
            elif is_sent:  # the rest of a streamed body
                return
            elif is_head:
                message, is_sent = {"type": "http.response.body"}, True
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        token, routed = request_id.set(_request_id(added)), {**scope, "method": "GET"} if is_head else scope
        try:
            await self._app(routed, receive, send_with_headers)
        except Exception:
            if not is_complete or status != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # otherwise the framework has responded and logged it, and raises it all the same
        finally:
            request_id.reset(token)
            scope["route"] = routed.get("route")
        return status

    async def _admit(self, scope: Scope, request_headers: Mapping[bytes, bytes]) -> Charge | None:
        """Identify the caller and charge the request. Raises KursError for one that is rejected."""
        await self._identify(scope, request_headers)
        charge = await self._quotas.admit(scope)
        try:
            self._hosts.check(scope, request_headers)
        except KursError as error:
            error.headers = [*error.headers, *_quota_headers(charge)]
            raise
        return charge

    async def _identify(self, scope: Scope, request_headers: Mapping[bytes, bytes]) -> None:
        """Set the scope's RequestContext. Raises Unauthenticated for a token that is not valid, Unavailable."""
        token = bearer_token(request_headers.get(b"authorization", b""))
        caller = None
        if token is not None and self._authenticator is not None:
            try:
                caller = self._cached_caller(scope, self._authenticator, token)
                if caller is None:
                    caller = await self._checked_caller(scope, self._authenticator, token)
            except Unavailable:
                if scope["path"] not in self._ready and scope["path"] not in self._streams:
                    raise  # what everyone gets does not depend on the database
        agent = clean_text(request_headers.get(b"user-agent", b"").decode("latin-1")[:MAX_AGENT_LENGTH])
        scope[CONTEXT] = RequestContext(caller, self._addresses.client_of(scope), agent)

    def _identify_at_once(self, scope: Scope, request_headers: Mapping[bytes, bytes]) -> bool:
        """Set the scope's RequestContext and return True, unless that needs a wait. Raises Unauthenticated."""
        token = bearer_token(request_headers[b"authorization"])
        if token is None or self._authenticator is None:
            return True
        caller = self._cached_caller(scope, self._authenticator, token)
        if caller is None:
            return False
        scope[CONTEXT] = RequestContext(caller, self._addresses.client_of(scope), "")
        return True

    def _cached_caller(self, scope: Scope, authenticator: Authenticator, token: str) -> Caller | None:
        """Return the caller if that needs no wait. Raises Unauthenticated, or QuotaExceeded after too many of those."""
        try:
            return authenticator.cached(token)
        except Unauthenticated as error:
            error.headers = _quota_headers(self._quotas.charge_unauthenticated(scope))
            raise

    async def _checked_caller(self, scope: Scope, authenticator: Authenticator, token: str) -> Caller:
        """Return the caller. Raises Unauthenticated, Unavailable, QuotaExceeded.

        The token is charged to its address until it turns out to be valid, so that many at once are no more guesses.
        """
        charge = self._quotas.charge_unauthenticated(scope)
        try:
            caller = await authenticator.caller(token)
        except Unauthenticated as error:
            error.headers = _quota_headers(charge)
            raise
        except Unavailable:
            if charge is not None:
                charge.refund()
            raise
        if charge is not None:
            charge.refund()
        return caller

    def _turn(self, scope: Scope) -> AbstractAsyncContextManager[None]:
        """Wait until few enough requests of the client run."""
        if not is_metered(scope):
            return nullcontext()
        return self._concurrency.slot(self._addresses.client_of(scope), partial(_has_disconnected, scope))

    def _common_headers(self, request_headers: Mapping[bytes, bytes]) -> Headers:
        """Return the headers of every response: the request's id, the client's own if it is sane, and the market."""
        given = request_headers.get(b"x-request-id")
        if given is None or len(given) > MAX_REQUEST_ID_LENGTH or not given.replace(b"-", b"").isalnum():
            given = self._id_prefix + b"%x" % next(self._id_counter)
        return [(b"x-request-id", given), (b"kurs-market", self._market)]

    def _finish(self, scope: Scope, added: Headers, status: int, started: float) -> None:
        """Count the request, and log it if it was rejected, failed or was slow."""
        path, method, seconds = scope["path"], scope.get("method", "GET"), time.perf_counter() - started
        known = path in self._ready or path in self._streams
        route = path if known else getattr(scope.get("route"), "path", "other")
        self.histogram.observe((method if method in KNOWN_METHODS else "other", route, status), seconds)
        if status < HTTPStatus.BAD_REQUEST and seconds <= SLOW_SECONDS:
            return
        if path in UNMETERED_PATHS and status in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            return  # /readyz waits for servers, and 503 is a regular result
        if status >= 500 or (seconds > SLOW_SECONDS and not route.startswith("/simulator")):
            self._log(logging.WARNING, scope, status, added, seconds)
        elif status >= 400 and not path.startswith(SIMULATOR_PREFIX):  # which rejects as an exchange does
            self._log(logging.INFO, scope, status, added, seconds)

    def _log(self, level: int, scope: Scope, status: int, added: Headers, seconds: float) -> None:
        method, path = scope.get("method", "WebSocket"), scope["path"][:MAX_LOGGED_PATH]
        extra = {"request_id": _request_id(added), "seconds": round(seconds, 3)}
        self._logs[level].log(level, "%s %s %d", method, path, status, extra=extra)


def _has_disconnected(scope: Scope) -> bool:
    transport = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
    return transport is not None and bool(transport.is_closing())


def _request_id(added: Headers) -> str:
    return added[0][1].decode()


def _with_vary(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return an app's headers. Every response varies by origin."""
    given = list(headers)
    return given if any(name == b"vary" for name, _ in given) else [*given, (b"vary", b"Origin")]


def _adding(send: Send, added: Headers) -> Send:
    """Return what sends a response with more headers."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return send_with_headers


def _quota_headers(charge: Charge | None) -> Headers:
    return [] if charge is None else charge.headers()


def _is_failure(status: int) -> bool:
    """Whether a response says that the client has failed, as by a wrong password."""
    return 400 <= status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS


def _charging(send: Send, charge: Charge | None, request_headers: Mapping[bytes, bytes]) -> Send:
    """Return what sends a response with its client's quota. One that the client has already costs nothing.

    `If-None-Match: *` is no proof that it has.
    """
    if charge is None:
        return send

    async def send_with_quota(message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == NOT_MODIFIED and request_headers.get(b"if-none-match", b"").strip() != b"*":
                charge.refund()
            message["headers"] = [*message["headers"], *charge.headers()]
        await send(message)

    return send_with_quota


def _error_response(error: Exception, scope: Scope, identifier: str) -> RawResponse:
    """Return the response to an error. Unforeseen errors are logged."""
    if not isinstance(error, KursError):
        method = scope.get("method", "WebSocket")
        log.error("%s %s failed", method, scope["path"], exc_info=error, extra={"request_id": identifier})
    return RawResponse(*render_problem(error, scope["path"], identifier))


async def _send(response: RawResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": response.body})
