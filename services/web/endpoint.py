"""Endpoints as values: what a path accepts, returns and costs, and how long its responses are cached.

An endpoint is a value beside its handler, as `EXCHANGES` and `@indicator` are for theirs:

    class FeesQuery(Struct, kw_only=True, frozen=True):
        symbol: Symbol

    FEES = Endpoint(
        path="/v1/fees", query=FeesQuery, response=schemas.Fees, tag="rates", operation_id="fees",
        summary="Trading fees", cache=Ttl(1_000, max_entries=16),
    )

    class FeesHandler:
        def __init__(self, parts: ApiComponents) -> None: ...

        @FEES.handler
        async def fees(self, query: FeesQuery) -> Content: ...

`services/web/` does the rest for all of them: it parses the query (`query.py`), looks into the cache before any
routing, runs equal requests once, makes the ETag, 304 and gzip forms (`endpoint_server.py`), and describes the
parameters in OpenAPI (`openapi.py`). A plain FastAPI route is possible beside it: a router in the service's `ROUTERS`.
"""

import pkgutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeAlias, TypeVar

from msgspec import Struct
from pydantic import BaseModel

from services.core.accounts.scopes import Scope
from services.core.errors import KursError
from services.core.model import Series
from services.web.callers import TokenKind
from services.web.query import QueryT
from services.web.quota_policies import API, PERSON, QuotaPolicy

JSON = b"application/json"
NO_STORE = b"no-store"


def public(max_age: int, stale: int = 0) -> bytes:
    """Return a Cache-Control that lets every cache keep a response for so many seconds."""
    more = b", stale-while-revalidate=%d" % stale if stale else b""
    return b"public, max-age=%d%s" % (max_age, more)


class CandleSpan(NamedTuple):
    """The candles that a response was made of: those of a series with open times in [since, until]."""

    series: Series
    since: int
    until: int


class Content(NamedTuple):
    """What a handler returns; `services/web/` makes the response of it.

    `lifetime_ms`: how long the server may cache it, where the endpoint's cache policy leaves that to the handler.
    `status`: instead of the endpoint's, where the response is for its caller alone.
    """

    body: bytes
    cache_control: bytes = NO_STORE
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = JSON
    lifetime_ms: int | None = None
    span: CandleSpan | None = None
    status: int | None = None


class Ttl(Struct, frozen=True):
    """A response is cached for `milliseconds`, for at most `max_entries` queries."""

    milliseconds: int
    max_entries: int


class UntilHubChanges(Struct, frozen=True):
    """A response is cached until the hub changes, but for `min_ms` at least and `max_ms` at most.

    The handler does not wait for anything, so that a new response is made before any routing too.
    """

    max_entries: int
    min_ms: int = 50
    max_ms: int = 900  # ages in a response grow, and the wall clock may have been set


class UntilCandleChanges(Struct, frozen=True):
    """A response is cached for the content's `lifetime_ms`, or until a closed candle within its `span` changes."""

    max_entries: int


CachePolicy: TypeAlias = Ttl | UntilHubChanges | UntilCandleChanges
Result: TypeAlias = Content | Awaitable[Content]
HandlerT = TypeVar("HandlerT")
ResultT = TypeVar("ResultT", bound=Result)
More = ParamSpec("More")
MethodT = TypeVar("MethodT", bound=Callable[..., Any])
MARK = "kurs_endpoint"  # an attribute of handler methods


@dataclass(frozen=True, kw_only=True)
class Operation(Generic[QueryT]):
    """What OpenAPI says about a path. Without `operation_id` nothing.

    `media`: the schemas of a response that is not JSON, by media type. `body`: the struct of a JSON body. `scope`: what
    the caller's token has to allow; None: anyone is served. `tokens`: the kinds of tokens that are accepted then.
    `limit`: the policy under which its requests are counted; None: PERSON with a scope, otherwise API. All this is the
    same at `aliases`, which OpenAPI does not show.
    """

    path: str
    query: type[QueryT]
    summary: str = ""
    description: str = ""
    tag: str = ""
    operation_id: str = ""
    response: type[BaseModel] | None = None
    media: Mapping[str, Any] | None = None
    method: str = "GET"
    body: type[Struct] | None = None
    status: int = 200
    scope: Scope | None = None
    tokens: tuple[TokenKind, ...] = (TokenKind.ACCESS, TokenKind.API)
    limit: QuotaPolicy | None = None
    aliases: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        """Whether anyone may GET it, and gets what everyone gets."""
        return self.method == "GET" and self.scope is None

    @property
    def policy(self) -> QuotaPolicy:
        """The policy under which its requests are counted."""
        return self.limit or (PERSON if self.scope else API)

    @property
    def paths(self) -> tuple[str, ...]:
        """The path and its aliases."""
        return (self.path, *self.aliases)


@dataclass(frozen=True, kw_only=True)
class Endpoint(Operation[QueryT]):
    """One operation of the API.

    Its handler is a method that is called with the query; one that is not public then gets the body, if it has one, and
    the `RequestContext`.
    `cache`: without a policy every request runs the handler.
    `cost`: as how many requests its policy counts one that no cache serves. `on_error`: the response to an error, for
    protocols with errors of their own.
    """

    cache: CachePolicy | None = None
    compress: bool = True
    cost: int = 1
    on_error: Callable[[KursError], Content | None] | None = None

    def __post_init__(self) -> None:
        if self.cache and not self.is_public:
            raise ValueError(f"{self.method} {self.path}: only what anyone may GET can be cached")
        if self.is_public and self.status != HTTPStatus.OK:
            raise ValueError(f"GET {self.path}: a response for everyone is 200, not {self.status}")
        if self.policy.strict and self.is_public:
            raise ValueError(f"GET {self.path}: its policy is strict, and a public response is sent without a wait")
        if self.body and not self.body.__struct_config__.forbid_unknown_fields:
            raise ValueError(f"{self.method} {self.path}: {self.body.__name__} needs forbid_unknown_fields=True")

    def handler(
        self, method: Callable[Concatenate[HandlerT, QueryT, More], ResultT]
    ) -> Callable[Concatenate[HandlerT, QueryT, More], ResultT]:
        """Mark a method as the endpoint's handler."""
        setattr(method, MARK, self)
        return method


@dataclass(frozen=True, kw_only=True)
class StreamEndpoint(Operation[QueryT]):
    """A response that lasts until its client leaves: server-sent events, or a WebSocket. Its handler is an ASGI app."""

    def handler(self, method: MethodT) -> MethodT:
        """Mark a method as the stream's app."""
        setattr(method, MARK, self)
        return method


class Binding(NamedTuple):
    """An endpoint with the bound method that handles it."""

    endpoint: Operation[Any]
    method: Callable[..., Any]


def find_handlers(package: str, path: Iterable[str]) -> list[type]:
    """Return all classes with handler methods in the modules of a package."""
    found: list[type] = []
    for each in pkgutil.walk_packages(path, f"{package}."):
        values = vars(import_module(each.name)).values()
        classes = [value for value in values if isinstance(value, type) and value.__module__ == each.name]
        found += [value for value in classes if marked(value)]
    return found


def marked(handler: type) -> dict[str, Operation[Any]]:
    """Return the endpoints of a handler class by the names of their methods."""
    return {name: getattr(value, MARK) for name, value in vars(handler).items() if hasattr(value, MARK)}


def bind(handler: object) -> list[Binding]:
    """Return the endpoints of a handler with its bound methods."""
    return [Binding(endpoint, getattr(handler, name)) for name, endpoint in marked(type(handler)).items()]
