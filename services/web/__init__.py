"""The HTTP edge that all services share: an app, its errors, its health, its metrics."""

from services.web.app import create_app, front_answer, stream_answer
from services.web.app_spec import AppSpec, FastHandler, Headers, RawResponse, StreamApp
from services.web.caching import Brief, CachedResponse, FifoCache, SingleFlight
from services.web.client_address import ClientAddresses
from services.web.direct_writer import CLOSE_TOO_SLOW, DirectWriter
from services.web.health import Check
from services.web.hosts import AllowedHosts
from services.web.openapi import openapi_document
from services.web.problems import error_code, render_problem

__all__ = [
    "CLOSE_TOO_SLOW",
    "AllowedHosts",
    "AppSpec",
    "Brief",
    "CachedResponse",
    "Check",
    "ClientAddresses",
    "DirectWriter",
    "FastHandler",
    "FifoCache",
    "Headers",
    "RawResponse",
    "SingleFlight",
    "StreamApp",
    "create_app",
    "error_code",
    "front_answer",
    "openapi_document",
    "render_problem",
    "stream_answer",
]
