"""Serves what Kurs knows: rates, directions, exchanges, candles, indicators, analysis, and all of it live."""

from services.api import routes
from services.api.analysis import routes as analysis
from services.api.candles import routes as candles
from services.api.candles.jobs import follow
from services.api.indicators import routes as indicators
from services.api.jobs import count_dead_letters, listen, report_freshness
from services.api.overview import routes as overview
from services.api.routes import checks, fronts
from services.api.streams import routes as streams
from services.api.streams.jobs import hear

JOBS = [listen, follow, hear, count_dead_letters, report_freshness]
ROUTERS = [routes.router, overview.router, candles.router, indicators.router, analysis.router, streams.router]
FRONTS = fronts
STREAMS = streams.streams
CHECKS = checks
COSTS = candles.COSTS | streams.COSTS
NEEDS = ("rates",)

__all__ = ["CHECKS", "COSTS", "FRONTS", "JOBS", "NEEDS", "ROUTERS", "STREAMS"]
