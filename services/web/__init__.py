"""The HTTP edge that all services share: an app, its errors, its health, its metrics."""

from services.web import quota_policies
from services.web.app import create_app
from services.web.app_spec import AppSpec, Composition, Headers, RawResponse, StreamApp
from services.web.cached_response import CachedResponse
from services.web.caching import FifoCache, SingleFlight
from services.web.callers import ACCESS_ONLY, CONTEXT, Authenticator, Caller, RequestContext, TokenKind
from services.web.client_address import ClientAddresses
from services.web.direct_writer import CLOSE_RESTART, CLOSE_SIGNED_OUT, CLOSE_TOO_SLOW, DirectWriter
from services.web.endpoint import (
    Binding,
    CandleSpan,
    Content,
    Endpoint,
    StreamEndpoint,
    Ttl,
    UntilCandleChanges,
    UntilHubChanges,
    bind,
    find_handlers,
    marked,
    public,
)
from services.web.endpoint_server import EndpointServer, make_servers
from services.web.health import Check
from services.web.hosts import AllowedHosts
from services.web.openapi import openapi_document
from services.web.problems import error_code, render_problem
from services.web.query import NoQuery, UnknownNames, WholeText
from services.web.query import parse as parse_query

__all__ = [
    "ACCESS_ONLY",
    "CLOSE_RESTART",
    "CLOSE_SIGNED_OUT",
    "CLOSE_TOO_SLOW",
    "CONTEXT",
    "AllowedHosts",
    "AppSpec",
    "Authenticator",
    "Binding",
    "CachedResponse",
    "Caller",
    "CandleSpan",
    "Check",
    "ClientAddresses",
    "Composition",
    "Content",
    "DirectWriter",
    "Endpoint",
    "EndpointServer",
    "FifoCache",
    "Headers",
    "NoQuery",
    "RawResponse",
    "RequestContext",
    "SingleFlight",
    "StreamApp",
    "StreamEndpoint",
    "TokenKind",
    "Ttl",
    "UnknownNames",
    "UntilCandleChanges",
    "UntilHubChanges",
    "WholeText",
    "bind",
    "create_app",
    "error_code",
    "find_handlers",
    "make_servers",
    "marked",
    "openapi_document",
    "parse_query",
    "public",
    "quota_policies",
    "render_problem",
]
