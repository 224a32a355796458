"""The outermost layer of every process: request ids, metrics, quotas, and answers kept ready before any routing.

Pure ASGI and free of whatever a request does not need: a framework's route costs ten times what a kept answer does.
"""

import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import KursError, NotFound
from services.hub import Hub
from services.log import request_id
from services.web.app_spec import Answer, Headers, Site, Stream
from services.web.concurrency import ConcurrencyLimiter
from services.web.cors import Pages
from services.web.direct_writer import WIRE
from services.web.metrics import Requests
from services.web.problems import problem, unreadable

ID_LENGTH = 128
FREE_PATHS = frozenset({"/livez", "/readyz", "/metrics"})  # a supervisor asks them
PLAYED = "/simulator/"  # a collector asks its played exchange
AT_ONCE, WAITING = 4, 100  # requests of one client whose answers are being made, and that wait for that
TURN_SECONDS = 10  # how long one waits
SLOW_SECONDS = 1.0
FAILED = 1011  # the closing code of a WebSocket for a fault of ours
LINES = {logging.WARNING: 1, logging.INFO: 10}  # in a second; of failures, of what is refused
LOGGED_PATH = 200  # characters
UNCHANGED = HTTPStatus.NOT_MODIFIED
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
log = logging.getLogger(__name__)


class Edge:
    """Wraps an app. The site's ready answers need no routing."""

    def __init__(self, app: ASGIApp, site: Site, hub: Hub, pages: Pages, requests: Requests) -> None:
        self._app, self._pages, self._requests = pages.before(app), pages, requests
        self._market = hub.market.encode()
        self._fronts, self._quota, self._streams, self._costs = site.fronts, site.quota, site.streams, site.costs
        self._addresses, self._hosts = site.addresses, site.hosts
        self._making = ConcurrencyLimiter(AT_ONCE, WAITING, TURN_SECONDS)
        self._logged: dict[int, Counter[int]] = {}  # by level, its lines in the second of the last one
        self._unlogged: Counter[int] = Counter()
        self._prefix, self._numbers = f"{secrets.token_hex(6)}-".encode(), itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif answer := self.at_once(scope):
            await _send(answer, send)
        else:
            await self._through(scope, receive, send)

    def at_once(self, scope: Scope) -> Answer | None:
        """The whole answer to a request that needs no routing, else None. Raises nothing."""
        path, method = scope["path"], scope["method"]
        front = self._fronts.get(path)
        if front is None or (method != "GET" and method != "HEAD"):  # noqa: PLR1714  quicker than a look into a tuple
            return None
        started, asked = time.perf_counter(), dict(scope["headers"])
        ours, admission = self._ours(asked), None
        try:
            if self._quota is not None:
                admission = self._quota.admit(scope)
                ours += admission.headers
            self._hosts.check(scope, asked)
            answer = front(scope["query_string"], asked)
        except Exception as error:  # noqa: BLE001  it is logged
            answer = _refusal(error, scope, ours)
        if admission is not None and self._quota is not None and (answer is None or answer[0] == UNCHANGED):
            self._quota.refund(admission)  # what the client has already costs nothing
        if answer is None:
            return None
        status, headers, body = answer
        if b"origin" in asked:
            ours += self._pages.headers(asked[b"origin"])
        self._settle(scope, ours, status, started)
        return Answer(status, headers + ours, body if method == "GET" else b"")

    def is_stream(self, scope: Scope) -> bool:
        """Whether the answer goes on as long as its client stays."""
        return scope["path"] in self._streams and scope.get("method", "GET") == "GET"

    def unreadable(self, status: HTTPStatus, detail: str) -> Answer:
        """What is answered to what is no request, or none that is read to its end."""
        ours = self._ours({})
        code, headers, body = unreadable(status, detail, _identifier(ours))
        self._settle({"path": "(not read)", "method": "?"}, ours, code, time.perf_counter())
        return Answer(code, [*headers, *ours], body)

    async def _through(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer, unless the client has asked too often or waits for too much."""
        started, asked = time.perf_counter(), dict(scope["headers"])
        ours = self._ours(asked)
        page = () if scope["method"] == "OPTIONS" else self._pages.headers(asked.get(b"origin", b""))
        stream = self._streams.get(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        try:
            ours += self._charged(scope)
            self._hosts.check(scope, asked)
            if stream:
                status = await self._streamed(stream, scope, receive, send, [*ours, *page])
                started = time.perf_counter()  # it was slow for no fault of ours
            elif _costs(scope):
                async with self._making.slot(self._addresses.of(scope), partial(_gone, scope)):
                    status = await self._routed(scope, receive, send, [*ours, *page])
            else:
                status = await self._routed(scope, receive, send, [*ours, *page])
        except KursError as error:
            status, headers, body = _refusal(error, scope, ours)
            await _send(Answer(status, [*headers, *ours, *page], body), send)
        self._settle(scope, ours, status, started)

    def _charged(self, scope: Scope) -> Headers:
        """Charge for a request; answers the headers that tell the client its quota. Raises QuotaExceeded."""
        if self._quota is None or not _costs(scope):
            return []
        return self._quota.admit(scope, self._costs.get(scope["path"], 1)).headers

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket. One that is refused is answered as a request is."""
        started, asked, accepted = time.perf_counter(), dict(scope["headers"]), False
        ours = self._ours(asked)
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
            ours += self._charged(scope)
            self._hosts.check(scope, asked)
            await self._streams.get(scope["path"], self._app)(scope, receive, add)
        except Exception as error:
            if not accepted:
                refused = error
            elif isinstance(error, OSError):  # it is gone
                raise
            else:
                log.exception("WebSocket %s failed", scope["path"], extra={"request_id": _identifier(ours)})
                await send({"type": "websocket.close", "code": FAILED, "reason": "Kurs failed: connect again"})
        if refused:
            status, headers, body = _refusal(refused, scope, ours)
            await send({"type": "websocket.http.response.start", "status": status, "headers": [*headers, *ours]})
            await send({"type": "websocket.http.response.body", "body": body})
            self._settle(scope, ours, status, started)

    async def _streamed(self, stream: Stream, scope: Scope, receive: Receive, send: Send, ours: Headers) -> int:
        """An answer that goes on until its client goes; answers the status. Raises KursError before it begins."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await stream(scope, receive, add)
        return 200

    async def _routed(self, scope: Scope, receive: Receive, send: Send, ours: Headers) -> int:
        """The app's answer, with our headers added; answers the status. To HEAD it is that to GET, without its body."""
        status, head, ended, answered = 500, scope["method"] == "HEAD", False, False

        async def add(message: Message) -> None:
            nonlocal status, ended, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*_varying(message.get("headers", ())), *ours]
            elif ended:  # of a stream, which hears that nobody listens
                return
            elif head:
                message, ended = {"type": "http.response.body"}, True
            await send(message)
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        token, asked = request_id.set(_identifier(ours)), {**scope, "method": "GET"} if head else scope
        try:
            await self._app(asked, receive, add)
        except Exception:
            if not answered or status != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # else the framework has answered and logged it, and raises it all the same
        finally:
            request_id.reset(token)
            scope["route"] = asked.get("route")
        return status

    def _ours(self, asked: Mapping[bytes, bytes]) -> Headers:
        """The request's id, the client's own if it is a sane one, and the market's name: on every answer."""
        given = asked.get(b"x-request-id")
        if given is None or len(given) > ID_LENGTH or not given.replace(b"-", b"").isalnum():
            given = self._prefix + b"%x" % next(self._numbers)
        return [(b"x-request-id", given), (b"kurs-market", self._market)]

    def _settle(self, scope: Scope, ours: Headers, status: int, started: float) -> None:
        """Count the request, and log it if it was refused, failed or was slow."""
        path, method, seconds = scope["path"], scope.get("method", "GET"), time.perf_counter() - started
        route = path if path in self._fronts or path in self._streams else getattr(scope.get("route"), "path", "other")
        self._requests.observe((method if method in METHODS else "other", route, status), seconds)
        if status < HTTPStatus.BAD_REQUEST and seconds <= SLOW_SECONDS:
            return
        if path in FREE_PATHS and status in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            return  # /readyz waits for servers, and 503 is what it has to say
        if status >= 500 or (seconds > SLOW_SECONDS and not route.startswith("/simulator")):
            self._log(logging.WARNING, scope, status, ours, seconds)
        elif status >= 400 and not path.startswith(PLAYED):  # which refuses as an exchange does
            self._log(logging.INFO, scope, status, ours, seconds)

    def _log(self, level: int, scope: Scope, status: int, ours: Headers, seconds: float) -> None:
        """Some lines a second: a flood of failures is none of log."""
        self._unlogged[level] += 1
        moment, lines = int(time.monotonic()), self._logged.get(level, Counter())
        if lines[moment] < LINES[level]:
            extra = {"request_id": _identifier(ours), "seconds": round(seconds, 3), "since_last": self._unlogged[level]}
            method, path = scope.get("method", "WebSocket"), scope["path"][:LOGGED_PATH]
            log.log(level, "%s %s %d", method, path, status, extra=extra)
            self._logged[level], self._unlogged[level] = Counter({moment: lines[moment] + 1}), 0


def _costs(scope: Scope) -> bool:
    """Whether a quota counts it. A preflight is the browser's own question."""
    path = scope["path"]
    return scope.get("method") != "OPTIONS" and path not in FREE_PATHS and not path.startswith(PLAYED)


def _gone(scope: Scope) -> bool:
    """Whether the client has hung up, where that is known."""
    wire = scope.get("extensions", {}).get(WIRE)
    return wire is not None and bool(wire.is_closing())


def _identifier(ours: Headers) -> str:
    return ours[0][1].decode()


def _varying(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """An app's headers; what says nothing of it varies by origin, as everything does."""
    given = list(headers)
    return given if any(name == b"vary" for name, _ in given) else [*given, (b"vary", b"Origin")]


def _refusal(error: Exception, scope: Scope, ours: Headers) -> Answer:
    """An error as an answer; one that nobody foresaw goes to the log as well."""
    if not isinstance(error, KursError):
        extra = {"request_id": _identifier(ours)}
        log.error("%s %s failed", scope.get("method", "WebSocket"), scope["path"], exc_info=error, extra=extra)
    ours += getattr(error, "headers", ())
    return Answer(*problem(error, scope["path"], _identifier(ours)))


async def _send(answer: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})
