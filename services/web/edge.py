"""The outermost layer of every process: request ids, metrics, quotas, and answers kept ready before any routing.

Pure ASGI and free of whatever a request does not need: a framework's route costs ten times what a kept answer does.
"""

import itertools
import logging
import secrets
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.errors import KursError, QuotaExceeded
from services.hub import Hub
from services.log import request_id
from services.web.cors import Pages
from services.web.metrics import Requests
from services.web.problems import problem
from services.web.site import Answer, Headers, Site, Stream

ID_LENGTH = 128
FREE = (304, 429)  # what counts for no quota
SLOW_SECONDS = 1.0
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
log = logging.getLogger(__name__)


class Edge:
    """Wraps an app. The site's ready answers need no routing."""

    def __init__(self, app: ASGIApp, site: Site, hub: Hub, pages: Pages, requests: Requests) -> None:
        self._app, self._hub, self._pages, self._requests = pages.around(app), hub, pages, requests
        self._fronts, self._quota, self._streams = site.fronts, site.quota, site.streams
        self._logged = self._unlogged = 0
        self._prefix, self._numbers = f"{secrets.token_hex(6)}-".encode(), itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._streams.get(scope["path"], self._app)(scope, receive, send)
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
        ours = self._ours(asked)
        try:
            if self._quota is not None:
                ours += self._quota.admit(scope)
            answer = front(scope["query_string"], asked)
        except Exception as error:  # noqa: BLE001  it is logged
            answer = _refusal(error, scope, ours)
        if answer is None:
            return None
        status, headers, body = answer
        if b"origin" in asked:
            ours += self._pages.headers(asked[b"origin"])
        self._settle(scope, ours, status, started)
        return Answer(status, headers + ours, body if method == "GET" else b"")

    async def _through(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer, unless the client has asked too often."""
        started, asked = time.perf_counter(), dict(scope["headers"])
        ours = self._ours(asked)
        try:
            if self._quota is not None and scope["method"] != "OPTIONS":  # a preflight is the browser's own question
                ours += self._quota.admit(scope)
        except QuotaExceeded as error:
            status, headers, body = _refusal(error, scope, ours)
            page = self._pages.headers(asked.get(b"origin", b""))
            await _send(Answer(status, [*headers, *ours, *page], body), send)
        else:
            if stream := self._streams.get(scope["path"]) if scope["method"] == "GET" else None:
                status = await self._streamed(stream, scope, receive, send, ours)
                started = time.perf_counter()  # it was slow for no fault of ours
            else:
                status = await self._routed(self._app, scope, receive, send, ours)
        self._settle(scope, ours, status, started)

    async def _streamed(self, stream: Stream, scope: Scope, receive: Receive, send: Send, ours: Headers) -> int:
        """An answer that goes on until its client goes; answers the status."""
        page = self._pages.headers(dict(scope["headers"]).get(b"origin", b""))
        try:
            return await self._routed(stream, scope, receive, send, [*ours, *page])
        except KursError as error:
            status, headers, body = _refusal(error, scope, ours)
            await _send(Answer(status, [*headers, *ours, *page], body), send)
            return status

    async def _routed(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, ours: Headers) -> int:
        """The app's answer, with our headers added; answers the status."""
        status = 500

        async def add(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *ours]
            await send(message)

        token = request_id.set(_identifier(ours))
        try:
            await app(scope, receive, add)
        finally:
            request_id.reset(token)
        return status

    def _ours(self, asked: Mapping[bytes, bytes]) -> Headers:
        """The request's id, the client's own if it is a sane one, and the market's name: on every answer."""
        given = asked.get(b"x-request-id")
        if given is None or len(given) > ID_LENGTH or not given.replace(b"-", b"").isalnum():
            given = self._prefix + b"%x" % next(self._numbers)
        return [(b"x-request-id", given), (b"kurs-market", self._hub.market)]

    def _settle(self, scope: Scope, ours: Headers, status: int, started: float) -> None:
        """Charge and count the request, and log it if it failed or was slow."""
        path, method, seconds = scope["path"], scope["method"], time.perf_counter() - started
        if self._quota is not None and status not in FREE and method != "OPTIONS":
            self._quota.charge(scope)
        route = path if path in self._fronts or path in self._streams else getattr(scope.get("route"), "path", "other")
        self._requests.observe((method if method in METHODS else "other", route, status), seconds)
        if status >= 500 or (seconds > SLOW_SECONDS and not route.startswith("/simulator")):
            self._unlogged += 1
            if (moment := int(time.monotonic())) != self._logged:  # a line a second: a flood of failures is none of log
                extra = {"request_id": _identifier(ours), "seconds": round(seconds, 3), "since_last": self._unlogged}
                log.warning("%s %s %d", method, path, status, extra=extra)
                self._logged, self._unlogged = moment, 0


def _identifier(ours: Headers) -> str:
    return ours[0][1].decode()


def _refusal(error: Exception, scope: Scope, ours: Headers) -> Answer:
    """An error as an answer; one that nobody foresaw goes to the log as well."""
    if not isinstance(error, KursError):
        extra = {"request_id": _identifier(ours)}
        log.error("%s %s failed", scope["method"], scope["path"], exc_info=error, extra=extra)
    if isinstance(error, QuotaExceeded):
        ours += getattr(error, "headers", ())
    return Answer(*problem(error, scope["path"], _identifier(ours)))


async def _send(answer: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})
