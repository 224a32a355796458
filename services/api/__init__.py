"""Serves what Kurs knows: rates, directions, exchanges, candles, indicators, analysis, and all of it live."""

from services.api import routes
from services.api.analysis import routes as analysis
from services.api.candles import routes as candles
from services.api.candles.jobs import invalidate_on_candles
from services.api.indicators import routes as indicators
from services.api.jobs import consume_rates, count_dead_letters, report_freshness
from services.api.overview import routes as overview
from services.api.routes import checks, fronts
from services.api.streams import routes as streams
from services.api.streams.jobs import consume_indicator_values

JOBS = [consume_rates, invalidate_on_candles, consume_indicator_values, count_dead_letters, report_freshness]
ROUTERS = [routes.router, overview.router, candles.router, indicators.router, analysis.router, streams.router]
FRONTS = fronts
STREAMS = streams.streams
CHECKS = checks
COSTS = candles.COSTS | streams.COSTS
NEEDS = ("rates",)

__all__ = ["CHECKS", "COSTS", "FRONTS", "JOBS", "NEEDS", "ROUTERS", "STREAMS"]
