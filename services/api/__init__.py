"""Serves what Kurs knows: rates, directions, exchanges, candles and how complete they are, and all of it live."""

from services.api import overview, routes
from services.api.candles import routes as candles
from services.api.candles.jobs import follow
from services.api.jobs import listen
from services.api.routes import checks, fronts
from services.api.streams import routes as streams
from services.api.streams.jobs import hear

JOBS = [listen, follow, hear]
ROUTERS = [routes.router, overview.router, candles.router, streams.router]
FRONTS = fronts
STREAMS = streams.streams
CHECKS = checks
NEEDS = ("rates",)

__all__ = ["CHECKS", "FRONTS", "JOBS", "NEEDS", "ROUTERS", "STREAMS"]
