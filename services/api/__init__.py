"""Serves what Kurs knows: current rates, the directions and the exchanges, candles and how complete they are,
indicators, analysis."""

from services.api import overview, routes
from services.api.analysis import routes as analysis
from services.api.candles import routes as candles
from services.api.candles.jobs import follow
from services.api.indicators import routes as indicators
from services.api.jobs import listen
from services.api.routes import checks, fronts

JOBS = [listen, follow]
ROUTERS = [routes.router, overview.router, candles.router, indicators.router, analysis.router]
FRONTS = fronts
CHECKS = checks
NEEDS = ("rates",)

__all__ = ["CHECKS", "FRONTS", "JOBS", "NEEDS", "ROUTERS"]
