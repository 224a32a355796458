"""The HTTP edge that all services share: an app, its errors, its health, its metrics."""

from services.web.app import create_app, front_answer, stream_answer
from services.web.app_spec import Answer, Front, Headers, Site, Stream
from services.web.caching import Brief, Kept, Once, Shelf
from services.web.client_address import Addresses
from services.web.direct_writer import TOO_SLOW, Wire
from services.web.health import Check
from services.web.hosts import Hosts
from services.web.openapi import describe
from services.web.problems import code, problem

__all__ = [
    "TOO_SLOW",
    "Addresses",
    "Answer",
    "Brief",
    "Check",
    "Front",
    "Headers",
    "Hosts",
    "Kept",
    "Once",
    "Shelf",
    "Site",
    "Stream",
    "Wire",
    "code",
    "create_app",
    "describe",
    "front_answer",
    "problem",
    "stream_answer",
]
