"""The HTTP edge that all services share: an app, its errors, its health, its metrics."""

from services.web.app import create_app, front_answer
from services.web.health import Check
from services.web.kept import Brief, Kept, Once, Shelf
from services.web.schema import describe
from services.web.site import Answer, Front, Headers, Site

__all__ = [
    "Answer",
    "Brief",
    "Check",
    "Front",
    "Headers",
    "Kept",
    "Once",
    "Shelf",
    "Site",
    "create_app",
    "describe",
    "front_answer",
]
