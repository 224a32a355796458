"""What serves an endpoint: cached responses before any routing, and its handler behind the route.

The edge calls `ready` first. Where that has no response, the request goes through the app, with its limits to
concurrency, to the endpoint's route, which awaits `respond`. So the route is run only on a cache miss.
"""

import inspect
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.core.accounts.scopes import format_scopes
from services.core.errors import KursError, MissingScope, Unauthenticated
from services.hub import Hub
from services.ports import Clock
from services.web.app_spec import Headers, RawResponse
from services.web.bodies import read_body
from services.web.cached_response import CachedResponse
from services.web.caching import SingleFlight
from services.web.callers import CONTEXT, Caller, RequestContext
from services.web.endpoint import Binding, Content, Endpoint, Operation
from services.web.query import NO_PATH, parameters, parse
from services.web.response_caches import response_cache

PRIVATE = b"private, no-store"


class EndpointServer:
    """One endpoint of a process, at all of its paths."""

    def __init__(self, endpoint: Endpoint[Any], binding: Binding, clock: Clock, hub: Hub) -> None:
        self.endpoint = endpoint
        self._handler = binding.method
        self._waits = inspect.iscoroutinefunction(binding.method)
        self._monotonic = clock.monotonic
        self._cache = response_cache(self.endpoint.cache, clock, hub)
        query: type[msgspec.Struct] = endpoint.query
        self._has_parameters = bool(parameters(query))
        self._cached = self._cache.get if self._has_parameters else lambda _query: self._cache.get(b"")
        self._in_flight: SingleFlight[bytes, CachedResponse] = SingleFlight()

    def ready(self, query: bytes, request_headers: Mapping[bytes, bytes]) -> RawResponse | None:
        """Return the response to a query string if it needs no wait. Raises KursError."""
        response = self._cached(query)
        if response is None:
            if self._waits:
                return None
            response = self._made_at_once(query)
        return response.response_for(request_headers)

    async def respond(self, request: Request) -> Response:
        """Return the response to a request at the endpoint's route. Raises KursError."""
        scope = request.scope
        if self.endpoint.is_public:
            path = scope["path"] if request.path_params else ""
            raw = await self.read(scope["query_string"], dict(scope["headers"]), path, request.path_params)
        else:
            raw = await self._act(request)
        response = Response(raw.body, raw.status)
        response.raw_headers = raw.headers
        return response

    async def read(
        self, query: bytes, request_headers: Mapping[bytes, bytes], path: str = "", params: Mapping[str, str] = NO_PATH
    ) -> RawResponse:
        """Return the response to a query string, and a path with parameters. Raises KursError."""
        key = b"%s?%s" % (path.encode(), query) if path else query if self._has_parameters else b""
        response = self._cache.get(key)
        if response is None and self.endpoint.cache is None:
            response = await self._made(key, query, params)
        elif response is None:
            response = await self._in_flight.run(key, lambda _: self._made(key, query, params))
        return response.response_for(request_headers)

    def _made_at_once(self, query: bytes) -> CachedResponse:
        started = self._monotonic()
        try:
            content = self._handler(parse(self.endpoint.query, query))
        except KursError as error:
            content = self._explained(error)
        return self._stored(query if self._has_parameters else b"", content, started)

    async def _made(self, key: bytes, query: bytes, params: Mapping[str, str]) -> CachedResponse:
        started = self._monotonic()
        try:
            result = self._handler(parse(self.endpoint.query, query, params))
            content = await result if self._waits else result
        except KursError as error:
            content = self._explained(error)
        return self._stored(key, content, started)

    def _stored(self, key: bytes, content: Content, started: int) -> CachedResponse:
        if content.status is not None:
            raise ValueError(f"GET {self.endpoint.path}: a response for everyone is 200, anything else is a KursError")
        response = CachedResponse(content.body, _headers(content, self.endpoint.compress), self.endpoint.compress)
        self._cache.put(key, response, content, started)
        return response

    def _explained(self, error: KursError) -> Content:
        """Return an error in the endpoint's own form. Raises the error where it has none."""
        content = self.endpoint.on_error(error) if self.endpoint.on_error else None
        if content is None:
            raise error
        return content

    async def _act(self, request: Request) -> RawResponse:
        """Respond to one caller alone, or to a request that changes something."""
        context: RequestContext = request.scope[CONTEXT]
        check_scope(self.endpoint, context.caller)
        arguments = [parse(self.endpoint.query, request.scope["query_string"], request.path_params)]
        if self.endpoint.body is not None:
            arguments.append(await read_body(request, self.endpoint.body))
        result = self._handler(*arguments, context)
        content: Content = await result if self._waits else result
        content = content._replace(cache_control=PRIVATE)
        status, headers = content.status or self.endpoint.status, _headers(content, compress=False)
        if status == HTTPStatus.NO_CONTENT:  # RFC 9110, 8.6: it has no length either
            return RawResponse(status, [each for each in headers if each[0] != b"content-type"], b"")
        return RawResponse(status, [*headers, (b"content-length", b"%d" % len(content.body))], content.body)


def check_scope(operation: Operation[Any], caller: Caller | None) -> None:
    """Check that a caller may do this. Raises Unauthenticated, MissingScope."""
    scope = operation.scope
    if scope is None:
        return
    if caller is None:
        raise Unauthenticated(f"send `Authorization: Bearer …` with a token that allows `{scope}`: docs/accounts.md")
    if caller.kind not in operation.tokens:
        raise MissingScope(scope, "an API token cannot do this: sign in, and use the access token")
    if scope not in caller.scopes:
        raise MissingScope(
            scope, f"this needs a token that allows `{scope}`; yours allows: {format_scopes(caller.scopes)}"
        )


def make_servers(bindings: Iterable[Binding], clock: Clock, hub: Hub) -> list[EndpointServer]:
    """Return what serves these endpoints. Streams among them serve themselves."""
    return [EndpointServer(each.endpoint, each, clock, hub) for each in bindings if isinstance(each.endpoint, Endpoint)]


def _headers(content: Content, compress: bool) -> Headers:
    return [
        (b"content-type", content.media_type),
        (b"cache-control", content.cache_control),
        (b"vary", b"Origin, Accept-Encoding" if compress else b"Origin"),
        *content.headers,
    ]
